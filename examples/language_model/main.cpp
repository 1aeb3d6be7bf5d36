// Trains small language models of characters and prints their losses by step and by second.
#include <iomanip>
#include <iostream>
#include <optional>

#include <multistate/execution/thread_pool.hpp>

#include "experiment.hpp"
#include "output_file.hpp"
#include "program.hpp"

namespace {

std::vector<language_model::run_result> train_all(const language_model::options& o,
                                                  const language_model::corpus& texts) {
    multistate::thread_pool pool(o.threads);
    std::vector<language_model::run_result> runs;
    for (const std::string& name : o.models) {
        runs.push_back(language_model::train(o, name, texts, pool, [&](const language_model::curve_point& at) {
            if (o.quiet) return;
            std::cerr << '\r' << name << ": step " << at.step << ", " << std::fixed << std::setprecision(1)
                      << at.seconds << " s, loss " << std::setprecision(3) << at.training_loss << ", validation "
                      << at.validation_loss << "   " << std::flush;
        }));
        if (!o.quiet) std::cerr << '\n';
    }
    return runs;
}

int run(const language_model::options& o) {
    std::optional<demo::output_file> json;
    if (o.json) json.emplace(*o.json);
    const language_model::corpus texts = language_model::read(o);
    const auto runs = train_all(o, texts);
    if (!o.quiet) language_model::print_tables(std::cout, runs);
    if (json) {
        language_model::write_json(json->stream(), o, texts, runs);
        json->commit();
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    return training::run_program("language_model", [&] {
        const auto o = language_model::parse_options(count, arguments);
        return o ? run(*o) : 0;
    });
}
