// Trains recurrent cells on selective copying and prints their accuracy by layers.
#include <iomanip>
#include <iostream>
#include <optional>

#include <multistate/execution/thread_pool.hpp>

#include "experiment.hpp"
#include "output_file.hpp"
#include "program.hpp"

namespace {

std::vector<selective_copy::run_result> train_all(const selective_copy::options& o) {
    multistate::thread_pool pool(o.threads);
    std::vector<selective_copy::run_result> runs;
    for (const std::string& cell : o.cells) {
        for (const std::size_t layers : o.layers) {
            for (std::size_t i = 0; i < o.seeds; ++i) {
                const selective_copy::setting s{.cell = cell, .layers = layers, .seed = o.seed + i};
                runs.push_back(selective_copy::train(o, s, pool, [&](const selective_copy::curve_point& at) {
                    if (o.quiet) return;
                    std::cerr << '\r' << cell << ", " << layers << (layers == 1 ? " layer" : " layers") << ", seed "
                              << s.seed << ": step " << at.step << ", loss " << std::fixed << std::setprecision(3)
                              << at.loss << ", accuracy " << 100 * at.accuracy << " %   " << std::flush;
                }));
                if (!o.quiet) std::cerr << '\n';
            }
        }
    }
    return runs;
}

int run(const selective_copy::options& o) {
    std::optional<demo::output_file> json;
    if (o.json) json.emplace(*o.json);
    const auto runs = train_all(o);
    if (!o.quiet) selective_copy::print_table(std::cout, o, runs);
    if (json) {
        selective_copy::write_json(json->stream(), o, runs);
        json->commit();
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    return training::run_program("selective_copy", [&] {
        const auto o = selective_copy::parse_options(count, arguments);
        return o ? run(*o) : 0;
    });
}
