// The results of all runs, for people and for programs.
#include <algorithm>
#include <iomanip>
#include <optional>
#include <ostream>
#include <string>

#include <multistate/core/target.hpp>
#include <multistate/version.hpp>
#include <nlohmann/json.hpp>

#include "experiment.hpp"

namespace language_model {

namespace {

std::string number(double x, int digits) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << x;
    return text.str();
}

/// Between two validations, on a straight line; none before the first and after the last.
std::optional<double> loss_at(const run_result& r, double seconds) {
    for (std::size_t i = 1; i < r.curve.size(); ++i) {
        const curve_point &a = r.curve[i - 1], &b = r.curve[i];
        if (seconds < a.seconds || seconds > b.seconds) continue;
        const double part = (seconds - a.seconds) / (b.seconds - a.seconds);
        return a.validation_loss + part * (b.validation_loss - a.validation_loss);
    }
    return std::nullopt;
}

/// At most eight points of a curve: each twice as far as the one before, and the last.
std::vector<std::size_t> columns(std::size_t points) {
    std::vector<std::size_t> chosen;
    for (std::size_t left = points; left > 0 && chosen.size() < 8; left /= 2) chosen.push_back(left - 1);
    std::ranges::reverse(chosen);
    return chosen;
}

void print_by_step(std::ostream& out, std::span<const run_result> runs) {
    const auto chosen = columns(runs.front().curve.size());
    out << "\nValidation loss, nats per character, by step\n\n| model | units | parameters | processor ms per step |";
    for (const std::size_t i : chosen) out << ' ' << runs.front().curve[i].step << " |";
    out << "\n| - | - | - | - |";
    for (std::size_t i = 0; i < chosen.size(); ++i) out << " - |";
    for (const run_result& r : runs) {
        const curve_point& last = r.curve.back();
        out << "\n| " << r.model << " | " << (r.units > 0 ? std::to_string(r.units) : "") << " | " << r.parameters
            << " | " << number(1000 * last.seconds / static_cast<double>(last.step), 0) << " |";
        for (const std::size_t i : chosen) out << ' ' << number(r.curve[i].validation_loss, 3) << " |";
    }
    out << '\n';
}

void print_by_second(std::ostream& out, std::span<const run_result> runs) {
    double longest = 0;
    for (const run_result& r : runs) longest = std::max(longest, r.curve.back().seconds);
    std::vector<double> seconds;
    for (double s = longest; s >= 1 && seconds.size() < 6; s /= 2) seconds.push_back(std::floor(s));
    if (seconds.empty()) return;
    std::ranges::reverse(seconds);
    out << "\nThe same by second of processor time, all threads together; in brackets where training had ended "
           "before\n\n"
        << "| model |";
    for (const double s : seconds) out << ' ' << number(s, 0) << " s |";
    out << "\n| - |";
    for (std::size_t i = 0; i < seconds.size(); ++i) out << " - |";
    for (const run_result& r : runs) {
        out << "\n| " << r.model << " |";
        for (const double s : seconds) {
            if (s > r.curve.back().seconds) {
                out << " (" << number(r.curve.back().validation_loss, 3) << ") |";
            } else {
                const auto loss = loss_at(r, s);
                out << ' ' << (loss ? number(*loss, 3) : "-") << " |";
            }
        }
    }
    out << '\n';
}

}  // namespace

void print_tables(std::ostream& out, std::span<const run_result> runs) {
    print_by_step(out, runs);
    print_by_second(out, runs);
}

void write_json(std::ostream& out, const options& o, const corpus& texts, std::span<const run_result> runs) {
    nlohmann::ordered_json all{{"program", "language_model"},
                               {"version", MULTISTATE_VERSION},
                               {"target", multistate::target_name()},
                               {"training_characters", texts.training.size()},
                               {"validation_characters", texts.validation.size()},
                               {"vocabulary", texts.vocabulary},
                               {"width", o.width},
                               {"blocks", o.blocks},
                               {"heads", o.heads},
                               {"length", o.length},
                               {"batch", o.batch},
                               {"learning_rate", o.learning_rate},
                               {"seed", o.seed},
                               {"threads", o.threads}};
    for (const run_result& r : runs) {
        nlohmann::ordered_json curve = nlohmann::ordered_json::array();
        for (const curve_point& c : r.curve) {
            curve.push_back({{"step", c.step},
                             {"seconds", c.seconds},
                             {"training_loss", c.training_loss},
                             {"validation_loss", c.validation_loss}});
        }
        all["runs"].push_back(
            {{"model", r.model}, {"units", r.units}, {"parameters", r.parameters}, {"curve", std::move(curve)}});
    }
    out << all.dump(1) << '\n';
}

}  // namespace language_model
