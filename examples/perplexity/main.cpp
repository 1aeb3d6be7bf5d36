// perplexity: what forgetting costs on a real model, by policy and by k. See --help.
#include <exception>
#include <iostream>
#include <limits>
#include <new>
#include <stdexcept>

#include "inputs.hpp"
#include "options.hpp"
#include "output_file.hpp"
#include "paper_session.hpp"
#include "profile_session.hpp"
#include "sequences.hpp"
#include "session.hpp"

namespace {

int print_tokens(const demo::options& o) {
    const demo::gguf file = demo::open_model(o);
    const auto any_size = static_cast<std::size_t>(std::numeric_limits<demo::token>::max());
    std::size_t context = 0;
    demo::print_tokens(std::cout, demo::read_sequences(o, file, context, any_size));
    return 0;
}

int run(const demo::options& o) {
    if (o.print_tokens) return print_tokens(o);
    if (!o.compare.empty()) return demo::compare(o);
    if (o.profile) return demo::print_profile(o);
    if (o.paper) return demo::measure_paper(o);
    return demo::measure(o);
}

}  // namespace

int main(int count, char** arguments) {
    demo::open_standard_descriptors();
    demo::handle_signals();
    try {
        const auto o = demo::parse_options(count, arguments);
        const int code = o ? run(*o) : 0;
        const bool written = static_cast<bool>(std::cout.flush());
        demo::end_by_postponed_signal();  // whoever reads the output may have gone with a hangup
        if (!written) throw std::runtime_error("standard output: cannot be written");
        return code;
    } catch (const std::bad_alloc&) {
        std::cerr << "perplexity: not enough memory\n";
    } catch (const std::exception& error) {
        std::cerr << "perplexity: " << error.what() << '\n';
    }
    return 1;
}
