#include "options.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>

#include <multistate/version.hpp>

#include "cells.hpp"
#include "command_line.hpp"

namespace selective_copy {

namespace {

constexpr const char* description =
    "Trains recurrent cells on selective copying, the task on which \"Were RNNs All We Needed?\" (arXiv 2410.01201)\n"
    "shows that minGRU and minLSTM learn: data tokens lie at random places among blanks and must be repeated in "
    "order.\n"
    "Prints the accuracy on new sequences by cell and number of layers, mean and deviation over seeds.";

constexpr const char* footer =
    "Examples:\n"
    "  selective_copy                                      two cells, 1 to 3 layers, 3 seeds\n"
    "  selective_copy --quick                              seconds: to see that it runs\n"
    "  selective_copy --cell min_gru --layers 3 --length 4096 --data-tokens 16 --width 64 --expansion 6\n"
    "                 --steps 400000                       the paper's size: days on a CPU";

void describe(CLI::App& app, options& o) {
    using training::whole_number;
    app.add_option("--cell", o.cells, "cells, by commas: " + training::listed(training::cell_names))
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--layers", o.layers, "numbers of layers, by commas")
        ->delimiter(',')
        ->check(whole_number(1, 64))
        ->capture_default_str();
    app.add_option("--length", o.task.length, "blanks and data tokens in a sequence")
        ->check(whole_number(1, 1u << 20))
        ->capture_default_str();
    app.add_option("--data-tokens", o.task.data_tokens, "tokens to remember")
        ->check(whole_number(1, 1u << 20))
        ->capture_default_str();
    app.add_option("--vocabulary", o.task.vocabulary, "kinds of tokens, with the blank and the marker")
        ->check(whole_number(3, 1u << 16))
        ->capture_default_str();
    app.add_option("--width", o.width, "floats per token between layers")
        ->check(whole_number(1, 1u << 14))
        ->capture_default_str();
    app.add_option("--expansion", o.expansion, "units of a cell, times the width")
        ->check(whole_number(1, 64))
        ->capture_default_str();
    app.add_option("--batch", o.batch, "sequences in a step")->check(whole_number(1, 1u << 14))->capture_default_str();
    app.add_option("--steps", o.steps, "most training steps")->check(whole_number(1, 100000000))->capture_default_str();
    app.add_option("--learning-rate", o.learning_rate, "the highest of a run")
        ->check(training::positive_number())
        ->capture_default_str();
    app.add_option("--seed", o.seed, "the first seed")->check(whole_number(0, UINT64_MAX / 2))->capture_default_str();
    app.add_option("--seeds", o.seeds, "runs of each model, with consecutive seeds")
        ->check(whole_number(1, 1000))
        ->capture_default_str();
    app.add_option("--threads", o.threads, "threads; results do not depend on them (default: one per core)")
        ->check(whole_number(1, 1024));
    app.add_option("--json", o.json, "write all runs as JSON; - is standard output and needs --quiet")
        ->type_name("FILE");
    app.add_flag("--quiet", o.quiet, "print no table and no progress");
}

}  // namespace

std::optional<options> parse_options(int count, const char* const* arguments) {
    options o;
    o.threads = std::max(1u, std::thread::hardware_concurrency());
    bool quick = false;
    // The quick setting only changes defaults, so that options beside it still count.
    for (int i = 1; i < count; ++i) quick = quick || std::string_view(arguments[i]) == "--quick";
    if (quick) {
        o.layers = {1, 2};
        o.task = {.length = 16, .data_tokens = 2, .vocabulary = 6};
        o.width = 32;
        o.batch = 32;
        o.steps = 200;
        o.learning_rate = 3e-3;
        o.seeds = 1;
    }
    CLI::App app(description, "selective_copy");
    app.footer(footer);
    describe(app, o);
    app.add_flag("--quick", quick, "other defaults: a small task that takes seconds");
    app.set_version_flag("--version", "multistate " MULTISTATE_VERSION);
    if (!training::parse(app, count, arguments)) return std::nullopt;
    training::require_choices("--cell", o.cells, training::cell_names);
    if (o.task.data_tokens > o.task.length) {
        throw std::invalid_argument("--data-tokens must be at most --length, " + std::to_string(o.task.length) +
                                    ", is " + std::to_string(o.task.data_tokens));
    }
    if (o.json == "-" && !o.quiet) throw std::invalid_argument("--json - needs --quiet: both would print");
    return o;
}

}  // namespace selective_copy
