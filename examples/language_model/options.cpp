#include "options.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>

#include <multistate/version.hpp>

#include "command_line.hpp"
#include "experiment.hpp"

namespace language_model {

namespace {

constexpr const char* description =
    "Trains small language models of characters. They differ only in the layer that looks back: a recurrent cell of\n"
    "the library, or attention. Prints the loss on other text by training step and by second. With no arguments it\n"
    "trains on the bundled novella.";

constexpr const char* footer =
    "Examples:\n"
    "  language_model --text books/*.txt --validation other/*.txt\n"
    "  language_model --model min_gru,transformer --steps 2000 --json result.json\n"
    "  language_model --quick                              seconds: to see that it runs";

void describe_model(CLI::App& app, options& o) {
    using training::whole_number;
    app.add_option("--model", o.models, "models, by commas: " + training::listed(model_names))
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--width", o.width, "floats per token between layers")
        ->check(whole_number(8, 1u << 14))
        ->capture_default_str();
    app.add_option("--blocks", o.blocks, "blocks of a layer that looks back, and an MLP")
        ->check(whole_number(1, 256))
        ->capture_default_str();
    app.add_option("--heads", o.heads, "heads of the transformer; they divide the width")
        ->check(whole_number(1, 256))
        ->capture_default_str();
}

void describe_training(CLI::App& app, options& o) {
    using training::whole_number;
    app.add_option("--length", o.length, "characters in a sequence")
        ->check(whole_number(1, 1u << 20))
        ->capture_default_str();
    app.add_option("--batch", o.batch, "sequences in a step")->check(whole_number(1, 1u << 14))->capture_default_str();
    app.add_option("--steps", o.steps, "training steps")->check(whole_number(1, 100000000))->capture_default_str();
    app.add_option("--every", o.every, "steps between validations")
        ->check(whole_number(1, 100000000))
        ->capture_default_str();
    app.add_option("--validation-sequences", o.validation_sequences, "sequences in a validation")
        ->check(whole_number(1, 1u << 20))
        ->capture_default_str();
    app.add_option("--learning-rate", o.learning_rate, "the highest of a run")
        ->check(training::positive_number())
        ->capture_default_str();
    app.add_option("--seed", o.seed, "of weights and of sequences; all models see the same sequences")
        ->check(whole_number(0, UINT64_MAX))
        ->capture_default_str();
    app.add_option("--threads", o.threads, "threads; results do not depend on them (default: one per core)")
        ->check(whole_number(1, 1024));
}

void describe_files(CLI::App& app, options& o) {
    app.add_option("--text", o.text, "text files to train on (default: the bundled novella)")->type_name("FILE ...");
    app.add_option("--validation", o.validation, "text files to validate on (default: the last tenth of the text)")
        ->type_name("FILE ...");
    app.add_option("--json", o.json, "write all losses as JSON; - is standard output and needs --quiet")
        ->type_name("FILE");
    app.add_flag("--quiet", o.quiet, "print no tables and no progress");
}

void apply_quick(options& o) {
    o.width = 32;
    o.blocks = 1;
    o.length = 32;
    o.steps = 40;
    o.every = 20;
    o.validation_sequences = 16;
}

}  // namespace

std::optional<options> parse_options(int count, const char* const* arguments) {
    options o;
    o.models.assign(model_names.begin(), model_names.end());
    o.threads = std::max(1u, std::thread::hardware_concurrency());
    bool quick = false;
    // The quick setting only changes defaults, so that options beside it still count.
    for (int i = 1; i < count; ++i) quick = quick || std::string_view(arguments[i]) == "--quick";
    if (quick) apply_quick(o);
    CLI::App app(description, "language_model");
    app.footer(footer);
    describe_files(app, o);
    describe_model(app, o);
    describe_training(app, o);
    app.add_flag("--quick", quick, "other defaults: small models that take seconds");
    app.set_version_flag("--version", "multistate " MULTISTATE_VERSION);
    if (!training::parse(app, count, arguments)) return std::nullopt;
    training::require_choices("--model", o.models, model_names);
    if (o.width % o.heads != 0) {
        throw std::invalid_argument("--heads must divide --width, " + std::to_string(o.width) + ", is " +
                                    std::to_string(o.heads));
    }
    if (o.text.empty()) o.text = {LANGUAGE_MODEL_TEXT};
    if (o.json == "-" && !o.quiet) throw std::invalid_argument("--json - needs --quiet: both would print");
    return o;
}

}  // namespace language_model
