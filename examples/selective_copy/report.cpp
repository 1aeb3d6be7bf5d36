// The results of all runs, for people and for programs.
#include <cmath>
#include <iomanip>
#include <ostream>
#include <string>

#include <multistate/core/target.hpp>
#include <multistate/version.hpp>
#include <nlohmann/json.hpp>

#include "experiment.hpp"

namespace selective_copy {

namespace {

struct spread {
    double mean = 0, deviation = 0;
};

/// Deviation of a sample, with n - 1; 0 for one number.
spread spread_of(const std::vector<double>& values) {
    spread s;
    for (const double x : values) s.mean += x / static_cast<double>(values.size());
    if (values.size() < 2) return s;
    for (const double x : values) s.deviation += (x - s.mean) * (x - s.mean) / static_cast<double>(values.size() - 1);
    s.deviation = std::sqrt(s.deviation);
    return s;
}

std::string number(double x, int digits) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << x;
    return text.str();
}

}  // namespace

void print_table(std::ostream& out, const options& o, std::span<const run_result> runs) {
    out << "\nAccuracy on " << o.task.data_tokens << " data tokens among " << o.task.length << ", " << o.seeds
        << (o.seeds == 1 ? " seed" : " seeds, mean and deviation") << "; guessing gives "
        << number(100.0 / static_cast<double>(o.task.vocabulary - 2), 1) << " %\n\n"
        << "| cell | layers | parameters | accuracy | steps | processor seconds |\n| - | - | - | - | - | - |\n";
    for (std::size_t i = 0; i < runs.size(); i += o.seeds) {
        std::vector<double> accuracy, steps, seconds;
        for (const run_result& r : runs.subspan(i, o.seeds)) {
            accuracy.push_back(100 * r.accuracy);
            steps.push_back(static_cast<double>(r.curve.back().step));
            seconds.push_back(r.seconds);
        }
        const spread a = spread_of(accuracy);
        out << "| " << runs[i].what.cell << " | " << runs[i].what.layers << " | " << runs[i].parameters << " | "
            << number(a.mean, 1);
        if (o.seeds > 1) out << " ± " << number(a.deviation, 1);
        out << " | " << number(spread_of(steps).mean, 0) << " | " << number(spread_of(seconds).mean, 0) << " |\n";
    }
}

void write_json(std::ostream& out, const options& o, std::span<const run_result> runs) {
    nlohmann::ordered_json all{{"program", "selective_copy"},
                               {"version", MULTISTATE_VERSION},
                               {"target", multistate::target_name()},
                               {"length", o.task.length},
                               {"data_tokens", o.task.data_tokens},
                               {"vocabulary", o.task.vocabulary},
                               {"width", o.width},
                               {"expansion", o.expansion},
                               {"batch", o.batch},
                               {"steps", o.steps},
                               {"learning_rate", o.learning_rate},
                               {"threads", o.threads}};
    for (const run_result& r : runs) {
        nlohmann::ordered_json curve = nlohmann::ordered_json::array();
        for (const curve_point& c : r.curve)
            curve.push_back({{"step", c.step}, {"loss", c.loss}, {"accuracy", c.accuracy}});
        all["runs"].push_back({{"cell", r.what.cell},
                               {"layers", r.what.layers},
                               {"seed", r.what.seed},
                               {"parameters", r.parameters},
                               {"accuracy", r.accuracy},
                               {"seconds", r.seconds},
                               {"curve", std::move(curve)}});
    }
    out << all.dump(1) << '\n';
}

}  // namespace selective_copy
