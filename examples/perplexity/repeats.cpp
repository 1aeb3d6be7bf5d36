#include "repeats.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "report.hpp"
#include "terminal.hpp"
#include "text_table.hpp"
#include "unicode.hpp"

namespace demo {

namespace {

struct word {
    std::size_t id;          // equal words have equal ids
    std::size_t begin, end;  // bytes
};

bool is_apostrophe(char32_t c) { return c == U'\'' || c == U'\u2019'; }
bool in_word(char32_t c) { return is_letter(c) || is_number(c); }

/// Runs of letters and digits; an apostrophe between two letters joins them, so that "o'clock" is one word.
std::vector<word> words_in(std::string_view text) {
    std::unordered_map<std::string, std::size_t> ids;
    std::vector<word> words;
    std::string spelling;
    std::size_t begin = 0, end = 0;
    const auto close = [&] {
        if (!spelling.empty()) words.push_back({ids.emplace(spelling, ids.size()).first->second, begin, end});
        spelling.clear();
    };
    for (std::size_t at = 0; at < text.size();) {
        const character c = decode(text.substr(at));
        const std::size_t next = at + c.length;
        if (in_word(c.code_point)) {
            if (spelling.empty()) begin = at;
            for (std::size_t i = at; i < next; ++i) {
                spelling += text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
            }
            end = next;
        } else if (!is_apostrophe(c.code_point) || !is_letter(decode(text.substr(next)).code_point)) {
            close();
        }
        at = next;
    }
    close();
    return words;
}

/// Where runs of a fixed number of words stood before.
class earlier_runs {
  public:
    earlier_runs(std::span<const word> words, std::size_t length) : words_(words), length_(length) {}

    void add(std::size_t at) { places_[key(at)].push_back(at); }

    struct match {
        std::size_t place = 0;
        std::size_t words = 0;  // 0: there is none
    };
    /// The longest earlier run that begins with the words at `at` and ends before them.
    [[nodiscard]] match find(std::size_t at) const {
        match best;
        const auto places = places_.find(key(at));
        if (places == places_.end()) return best;
        for (const std::size_t place : places->second) {
            std::size_t same = 0;
            while (at + same < words_.size() && place + same < at && words_[place + same].id == words_[at + same].id) {
                ++same;
            }
            if (same >= length_ && same > best.words) best = {place, same};
        }
        return best;
    }

  private:
    /// Different runs may have one key: find() compares the words.
    [[nodiscard]] std::uint64_t key(std::size_t at) const {
        std::uint64_t value = 0xcbf29ce484222325U;
        for (const word& w : words_.subspan(at, length_)) value = (value ^ w.id) * 0x100000001b3U;
        return value;
    }

    std::span<const word> words_;
    std::size_t length_;
    std::unordered_map<std::uint64_t, std::vector<std::size_t>> places_;
};

/// "7", "1,234 to 5,678"
std::string range_text(std::span<const std::size_t> numbers) {
    const auto [least, most] = std::ranges::minmax(numbers);
    return grouped(least) + (least == most ? "" : " to " + grouped(most));
}

ms::estimate mean_of(std::span<const double> values) {
    const auto n = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const double v : values) sum += v;
    for (const double v : values) squares += (v - sum / n) * (v - sum / n);
    if (values.size() < 2) return {sum / n};
    return {sum / n, std::sqrt(squares / (n - 1) / n)};
}

double mean_nll(std::span<const repeat_score> scores, double repeat_score::*which) {
    std::vector<double> values;
    for (const repeat_score& s : scores) values.push_back(s.*which);
    return mean_of(values).value;
}

std::string passages(std::size_t n) { return grouped(n) + (n == 1 ? " passage" : " passages"); }

std::string introduction(const repeat_results& all) {
    std::string text =
        "Repeats: the text, as one sequence of " + grouped(all.tokens) + " tokens, has " + passages(all.found.size()) +
        " of " + std::to_string(least_repeated_words) +
        " or more words that stand earlier in the text (case, punctuation and line breaks do not count).";
    if (all.found.empty()) return text;
    if (all.trained_context > 1 && all.tokens > all.trained_context) {
        text += " The model was trained on sequences of " + grouped(all.trained_context) + ".";
    }
    return text +
           " First and again: the negative log likelihood of the first and of the second occurrence in nats per "
           "token, without the first " +
           std::to_string(cue_words) +
           " words, the cue; the mean over the passages. Gain: first minus again. ±: standard error over the passages.";
}

std::string group_text(const repeat_results& all, const repeat_group& group) {
    std::vector<std::size_t> distances;
    for (const std::size_t i : group.members) distances.push_back(all.found[i].distance());
    const std::string where = all.trained_context < 2 ? ""
                              : group.within          ? "Read within the trained length: "
                                                      : "Read beyond the trained length: ";
    const auto full = group.of(all.runs.front());
    std::string text =
        where + passages(group.members.size()) + ", " + range_text(distances) + " tokens after the first occurrence.";
    if (measurable(full)) return text;
    text += " Not measurable with this model: ";
    if (full.size() == 1) return text + "a standard error takes two passages.";
    text += "the gain of its full cache is not above two standard errors.";
    if (group.within) return text;
    return text + " There, the full cache also gets worse with the position, so that its gain mixes both.";
}

}  // namespace

std::vector<repeat> repeats_in(std::span<const std::string> tokens, std::size_t words) {
    std::string text;
    std::vector<std::size_t> begins;  // of the tokens, in bytes
    for (const std::string& each : tokens) {
        begins.push_back(text.size());
        text += each;
    }
    const auto token_at = [&](std::size_t byte) {
        return static_cast<std::size_t>(std::ranges::upper_bound(begins, byte) - begins.begin()) - 1;
    };
    const std::vector<word> all = words_in(text);
    const auto range_of = [&](std::size_t at, std::size_t count) {
        return token_range{token_at(all[at + cue_words].begin), token_at(all[at + count - 1].end - 1) + 1};
    };
    earlier_runs before(all, words);
    std::vector<repeat> found;
    for (std::size_t at = 0; at + words <= all.size();) {
        const auto [place, count] = before.find(at);
        if (count > 0) {
            const std::size_t begin = all[at].begin;
            found.push_back({.first = range_of(place, count),
                             .again = range_of(at, count),
                             .words = count,
                             .text = text.substr(begin, all[at + count - 1].end - begin)});
        }
        for (const std::size_t end = at + std::max<std::size_t>(1, count); at < end; ++at) {
            if (at + words <= all.size()) before.add(at);
        }
    }
    return found;
}

std::vector<repeat_score> scores_of(std::span<const repeat> repeats, std::span<const double> nll) {
    const auto mean = [&](token_range r) {  // the first token of a sequence is not predicted
        double sum = 0;
        const std::size_t begin = std::max<std::size_t>(1, r.begin);
        for (std::size_t i = begin; i < r.end; ++i) sum += nll[i - 1];
        return sum / static_cast<double>(r.end - begin);
    };
    std::vector<repeat_score> scores;
    for (const repeat& r : repeats) scores.push_back({mean(r.first), mean(r.again)});
    return scores;
}

ms::estimate gain_of(std::span<const repeat_score> scores) {
    std::vector<double> gains;
    for (const repeat_score& s : scores) gains.push_back(s.first - s.again);
    return mean_of(gains);
}

ms::estimate again_above(std::span<const repeat_score> scores, std::span<const repeat_score> full) {
    std::vector<double> above;
    for (std::size_t i = 0; i < scores.size(); ++i) above.push_back(scores[i].again - full[i].again);
    return mean_of(above);
}

bool measurable(std::span<const repeat_score> full) {
    const ms::estimate gain = gain_of(full);
    return gain.error && gain.value > 2 * *gain.error;
}

std::vector<repeat_score> repeat_group::of(const repeat_run& r) const {
    std::vector<repeat_score> scores;
    for (const std::size_t i : members) scores.push_back(r.scores[i]);
    return scores;
}

std::vector<repeat_group> groups_of(const repeat_results& all) {
    std::vector<repeat_group> groups{{.within = true, .members = {}}, {.within = false, .members = {}}};
    for (std::size_t i = 0; i < all.found.size(); ++i) {
        const bool within = all.trained_context < 2 || all.found[i].again.end <= all.trained_context;
        groups[within ? 0 : 1].members.push_back(i);
    }
    std::erase_if(groups, [](const repeat_group& g) { return g.members.empty(); });
    return groups;
}

void print_repeats(std::ostream& out, const repeat_results& all, table_format format, std::size_t columns) {
    out << wrapped(introduction(all), {.width = columns}) << '\n';
    if (all.runs.empty()) return;
    std::size_t width = 0;
    for (const repeat_run& r : all.runs) width = std::max(width, r.what.policy.text.size());
    const bool codecs = std::ranges::any_of(all.runs, [](const repeat_run& r) { return r.what.codec != "f32"; });
    std::vector<text_table::head> heads{{"policy", width}, {"k", 5}};
    if (codecs) heads.push_back({"codec", 5});
    heads.insert(heads.end(), {{"first", 6}, {"again", 6}, {"gain", 14}, {"again above full", 16}});
    for (const repeat_group& group : groups_of(all)) {
        out << '\n' << wrapped(group_text(all, group), {.width = columns}) << "\n\n";
        text_table table(out, format, heads);
        const auto full = group.of(all.runs.front());
        const bool judged = measurable(full);
        for (const repeat_run& r : all.runs) {
            const bool control = &r == &all.runs.front();
            if (!control && !judged) break;
            const auto scores = group.of(r);
            std::vector<std::string> cells{r.what.policy.text, forgets(r.what) ? std::to_string(r.what.states) : "all"};
            if (codecs) cells.push_back(r.what.codec);
            cells.push_back(fixed(mean_nll(scores, &repeat_score::first), 3));
            cells.push_back(fixed(mean_nll(scores, &repeat_score::again), 3));
            cells.push_back(with_error(gain_of(scores), 3));
            cells.push_back(control ? "-" : with_error(again_above(scores, full), 3));
            table.row(cells);
        }
    }
}

}  // namespace demo
