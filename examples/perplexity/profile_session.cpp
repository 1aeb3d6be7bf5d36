#include "profile_session.hpp"

#include <algorithm>
#include <iostream>
#include <optional>
#include <stdexcept>

#include "inputs.hpp"
#include "output_file.hpp"
#include "profile.hpp"
#include "terminal.hpp"

namespace demo {

int print_profile(const options& o) {
    check_files(o);
    std::optional<output_file> json;
    if (o.json) json.emplace(*o.json);
    const gguf file = open_model(o);
    ms::thread_pool pool(o.threads);
    const llama model(file, pool);
    if (model.config().replaced) {
        throw std::runtime_error(model_name(o) +
                                 ": cells serve some heads of this model, --profile needs attention in all");
    }
    std::size_t context = 0;
    const auto sequences = read_sequences(o, file, context, model.config().vocabulary);
    print_notes(file, model, sequences);
    const std::size_t near = o.profile->near + (o.profile->own == ms::own_token::counted ? 0 : 1);
    if (std::ranges::max(sequences, {}, &sequence::size).size() <= near) {
        throw std::runtime_error(source_name(o) + ": too short: no sequence has more than " + tokens_of(near) +
                                 ", so that all are near");
    }
    progress_bar bar(count_tokens(sequences), o.quiet);
    bar.begin("profile");
    const head_profile profile =
        profile_heads(model, sequences, *o.profile, [&](std::size_t tokens) { bar.advance(tokens); });
    bar.clear();
    if (!o.quiet) print_profile(std::cout, profile, model.config(), *o.profile);
    if (json) {
        write_profile(json->stream(), profile, model.config(), *o.profile, model_name(o));
        json->commit();
    }
    return 0;
}

}  // namespace demo
