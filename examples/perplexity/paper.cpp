#include "paper.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "text_table.hpp"

namespace demo {

namespace {

template <std::size_t N>
std::vector<std::string> share_columns(const std::array<std::size_t, N>& parts) {
    std::vector<std::string> columns;
    for (const std::size_t part : parts) columns.push_back("1/" + std::to_string(part));
    return columns;
}

/// The mean of sums over all sequences, each weighted by its count, with its standard error over those that have any.
ms::estimate mean_of(std::span<const double> sums, std::span<const double> counts) {
    double sum = 0, count = 0, n = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        sum += sums[i];
        count += counts[i];
        n += counts[i] > 0 ? 1 : 0;
    }
    const double mean = sum / count;
    if (n < 2) return {mean};
    double squares = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) squares += std::pow(sums[i] - mean * counts[i], 2);
    const double error = std::sqrt(squares * n / (n - 1)) / count;
    const double rounding = 1e-12 * std::abs(mean);  // equal values have no error, however their sum was rounded
    return {mean, error > rounding ? error : 0};
}
ms::estimate mean_of(std::span<const double> values) { return mean_of(values, std::vector(values.size(), 1.0)); }

const std::optional<outcome>& result(const paper_findings& f, std::string_view policy, std::size_t size) {
    return f.rows[paper_row(policy)][size];
}
double published(std::string_view policy, std::size_t size) {
    return paper_policies[paper_row(policy)].perplexity[size];
}

ms::estimate divided(const ms::estimate& e, double by) {
    ms::estimate ratio{e.value / by};
    if (e.error) ratio.error = *e.error / by;
    return ratio;
}

/// Perplexity of a policy in percent above another at the same k.
std::optional<ms::estimate> percent_above(const paper_findings& f, std::string_view a, std::string_view b,
                                          std::size_t size) {
    const auto &x = result(f, a, size), &y = result(f, b, size);
    if (!x || !y) return std::nullopt;
    return compare(*x, *y);
}
double published_percent(std::string_view a, std::string_view b, std::size_t size) {
    return 100 * (published(a, size) / published(b, size) - 1);
}

/// "a is below b", in percent by size.
claim compare_policies(const paper_findings& f, std::string text, std::string_view a, std::string_view b) {
    claim c{.text = std::move(text),
            .measure = "perplexity of " + std::string(a) + " in percent above " + std::string(b),
            .columns = share_columns(paper_parts)};
    for (std::size_t i = 0; i < paper_parts.size(); ++i) {
        c.here.push_back(percent_above(f, a, b, i));
        c.paper.push_back(published_percent(a, b, i));
    }
    return c;
}

claim window_collapses(const paper_findings& f) {
    claim c{.text = "Without the first tokens a window collapses",
            .measure = "perplexity of window divided by that of window+4",
            .low = 2,
            .columns = share_columns(paper_parts),
            .digits = 2};
    for (std::size_t i = 0; i < paper_parts.size(); ++i) {
        const auto percent = percent_above(f, "window", "window+4", i);
        c.here.emplace_back();
        if (percent) {
            c.here.back() = {1 + percent->value / 100};
            if (percent->error) c.here.back()->error = *percent->error / 100;
        }
        c.paper.push_back(published("window", i) / published("window+4", i));
    }
    return c;
}

claim near_full(const paper_findings& f) {
    constexpr double published_distance = 0.4;
    claim c{.text = "TOVA with 1/8 of the states is within 5.6 % of full",
            .measure = "perplexity of tova in percent above full (the paper says: within 0.4 of 7.16)",
            .high = 100 * published_distance / paper_full_perplexity,
            .columns = {"1/8"},
            .paper = {100 * (published("tova", 3) / paper_full_perplexity - 1)},
            .digits = 2};
    const auto& tova = result(f, "tova", 3);
    c.here.emplace_back();
    if (tova && f.full) c.here.back() = compare(*tova, *f.full);
    return c;
}

/// At 1/4 of the states, all others against tova at 1/8.
claim others_need_half(const paper_findings& f) {
    claim c{.text = "No other policy comes so close with less than 1/2 of the states",
            .measure = "perplexity with 1/4 of the states in percent above tova with 1/8",
            .low = 0,
            .by_size = false};
    const auto& tova = result(f, "tova", 3);
    for (const paper_policy& other : paper_policies) {
        if (!other.comparable || other.spec.starts_with("tova+") || other.spec == "tova") continue;
        c.columns.emplace_back(other.spec == shorter_context_name ? "shorter" : other.spec);
        const auto& quarter = result(f, other.spec, 4);
        c.here.emplace_back();
        if (quarter && tova) c.here.back() = compare(*quarter, *tova);
        c.paper.push_back(100 * (published(other.spec, 4) / published("tova", 3) - 1));
    }
    return c;
}

/// By size, against the policy from which the shorter context can be told least.
claim shorter_context_is_worse(const paper_findings& f) {
    const auto least_of = [](const ms::estimate& e) { return e.value - 2 * e.error.value_or(0); };
    claim c{.text = "A shorter context is worse than every policy but a window without sinks",
            .measure = "perplexity of shorter_context in percent above the nearest of the others",
            .low = 0,
            .columns = share_columns(paper_parts)};
    for (std::size_t i = 0; i < paper_parts.size(); ++i) {
        std::optional<ms::estimate> least;
        double least_published = std::numeric_limits<double>::infinity();
        for (const paper_policy& other : paper_policies) {
            if (!other.comparable || other.spec == "window" || other.spec == shorter_context_name) continue;
            least_published = std::min(least_published, published_percent(shorter_context_name, other.spec, i));
            const auto percent = percent_above(f, shorter_context_name, other.spec, i);
            if (percent && (!least || least_of(*percent) < least_of(*least))) least = percent;
        }
        c.here.push_back(least);
        c.paper.push_back(least_published);
    }
    return c;
}

/// Bytes per state, in times those of full.
double bytes_in_proportion(const batch_row& row, const batch_row& full) {
    const auto per_state = [](const batch_row& r) {
        return static_cast<double>(r.cache_bytes) / static_cast<double>(r.states);
    };
    return per_state(row) / per_state(full);
}

/// "1/64, 1/16 to 1/2"; `all` if these are all and there are several.
std::string list_columns(const claim& c, const std::vector<std::size_t>& which, const char* all) {
    if (which.size() == c.columns.size() && which.size() > 1) return all;
    std::string text;
    for (std::size_t i = 0; i < which.size(); ++i) {
        std::size_t last = i;
        while (c.by_size && last + 1 < which.size() && which[last + 1] == which[last] + 1) ++last;
        text += (text.empty() ? "" : ", ") + c.columns[which[i]];
        if (last < i + 2) continue;  // two are listed
        text += " to " + c.columns[which[last]];
        i = last;
    }
    return text;
}

/// Where a value stands: inside the interval, outside, or neither by more than two standard errors.
int side_of(const claim& c, const ms::estimate& e) {
    const double margin = 2 * *e.error;
    if (e.value - margin > c.low && e.value + margin < c.high) return 1;
    return e.value + margin < c.low || e.value - margin > c.high ? -1 : 0;
}

constexpr std::size_t next_tokens = 4;  // those after the first

/// The share of layers and KV heads that hold the state at position j to the end.
double kept_to_the_end(const ms::lifetimes& lives, std::size_t j) {
    const auto [layers, kv_heads, tokens] = lives.shape();
    double kept = 0;
    for (std::size_t t = 0; t < layers * kv_heads; ++t) {
        kept += lives.last_steps(t / kv_heads, t % kv_heads)[j] + 1 == static_cast<ms::position>(tokens) ? 1 : 0;
    }
    return kept / static_cast<double>(layers * kv_heads);
}

/// The mean steps of the tokens for which counts(sequence, position) is true.
template <class Counts>
class_steps steps_of_tokens(std::span<const ms::lifetimes> lives, Counts counts) {
    std::vector<double> sums(lives.size()), tokens(lives.size());
    for (std::size_t i = 0; i < lives.size(); ++i) {
        const std::size_t length = lives[i].shape().tokens;
        for (std::size_t j = 0; j < length; ++j) {
            if (!counts(i, j)) continue;
            sums[i] += lives[i].held_share(static_cast<ms::position>(j)) * static_cast<double>(length - j);
            tokens[i] += 1;
        }
    }
    const double all = std::accumulate(tokens.begin(), tokens.end(), 0.0);
    return {static_cast<std::size_t>(all), mean_of(sums, tokens)};
}

/// Whether a quotation mark in `text` follows something that is no space.
bool closes_quotation(std::string_view before, std::string_view text) {
    if (text.find("”") != std::string_view::npos) return true;
    const std::size_t mark = text.find('"');
    if (mark == std::string_view::npos) return false;
    const std::string_view left = mark > 0 ? text.substr(0, mark) : before;
    return !left.empty() && std::string_view(" \n\r").find(left.back()) == std::string_view::npos;
}

/// The tags ) and . of the Penn Treebank stand for all of these.
std::size_t paper_class(std::string_view before, std::string_view text) {
    if (closes_quotation(before, text)) return 0;
    const std::size_t begin = text.find_first_not_of(' ');
    constexpr std::array<std::string_view, 3> beginnings{")]}", ".!?", "\n"};
    for (std::size_t i = 0; i < beginnings.size() && begin != std::string_view::npos; ++i) {
        if (beginnings[i].find(text[begin]) != std::string_view::npos) return i + 1;
    }
    return paper_classes.size();
}

/// The share of recent_share() if the k survivors of each step were drawn from all states.
double recent_share_at_random(std::size_t states, std::size_t length) {
    double sum = 0, steps = 0;
    for (std::size_t step = states; step + 1 < length; ++step, ++steps) {
        sum += static_cast<double>(states) / static_cast<double>(step + 1);
    }
    return sum / steps;
}

/// TOVA keeps the tokens of paper_classes[i] for more steps than others.
claim class_is_kept(const paper_findings& f, std::size_t i) {
    claim c{.text = "TOVA keeps a " + std::string(paper_classes[i]) + " longer than the average token",
            .measure = "mean steps divided by the average",
            .low = 1,
            .columns = share_columns(paper_table_1_parts),
            .digits = 2,
            .reason = f.no_retention};
    for (std::size_t k = 0; k < paper_table_1_parts.size(); ++k) {
        c.paper.push_back(paper_class_steps[i][k] / paper_average_steps[k]);
        c.here.emplace_back();
        if (!f.retained[k]) continue;
        const class_steps& found = f.retained[k]->classes[i];
        if (found.tokens == 0) c.reason = "the sequences of the whole length have none";
        if (found.tokens > 0) c.here.back() = divided(found.steps, f.retained[k]->average_steps);
    }
    return c;
}

}  // namespace

std::size_t paper_row(std::string_view spec) {
    return static_cast<std::size_t>(std::ranges::find(paper_policies, spec, &paper_policy::spec) -
                                    paper_policies.begin());
}

std::vector<std::size_t> paper_classes_of(std::span<const std::string> texts) {
    std::vector<std::size_t> classes;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        classes.push_back(i == 0 ? paper_classes.size() : paper_class(texts[i - 1], texts[i]));
    }
    return classes;
}

std::vector<std::size_t> paper_classes_of(const tokenizer& words, std::span<const token> tokens) {
    std::vector<std::string> texts;
    for (const token id : tokens) texts.push_back(id == words.bos() ? std::string() : words.decode(id));
    return paper_classes_of(texts);
}

retention retention_of(std::span<const ms::lifetimes> lives, std::span<const std::vector<std::size_t>> classes,
                       std::size_t states) {
    std::vector<double> recent, first_kept, first_held, next_kept, next_held, all_kept;
    for (const ms::lifetimes& one : lives) {
        recent.push_back(100 * one.recent_share(states));
        first_kept.push_back(100 * kept_to_the_end(one, 0));
        first_held.push_back(100 * one.held_share(0));
        for (auto* v : {&next_kept, &next_held, &all_kept}) v->push_back(0);
        const std::size_t length = one.shape().tokens;
        for (std::size_t j = 0; j < length; ++j) {
            all_kept.back() += 100 * kept_to_the_end(one, j) / static_cast<double>(length);
        }
        for (std::size_t j = 1; j <= next_tokens; ++j) {
            next_kept.back() += 100 * kept_to_the_end(one, j) / next_tokens;
            next_held.back() += 100 * one.held_share(static_cast<ms::position>(j)) / next_tokens;
        }
    }
    retention result{.states = states,
                     .recent = mean_of(recent),
                     .recent_at_random = 100 * recent_share_at_random(states, lives.front().shape().tokens),
                     .first_to_the_end = mean_of(first_kept),
                     .first_held = mean_of(first_held),
                     .next_to_the_end = mean_of(next_kept),
                     .next_held = mean_of(next_held),
                     .all_to_the_end = mean_of(all_kept).value,
                     .average_steps = steps_of_tokens(lives, [](std::size_t, std::size_t) { return true; }).steps.value,
                     .classes = {}};
    for (std::size_t c = 0; c < paper_classes.size(); ++c) {
        result.classes[c] = steps_of_tokens(lives, [&](std::size_t i, std::size_t j) { return classes[i][j] == c; });
    }
    return result;
}

std::string_view text_of(verdict v) {
    constexpr std::array<std::string_view, 4> texts{"holds", "does not hold here", "undecided", "not comparable"};
    return texts[static_cast<std::size_t>(v)];
}

void judge(claim& c) {
    c.verdict = verdict::not_comparable;
    std::vector<std::size_t> judged, inside, outside, unclear;
    bool measured = false;
    for (std::size_t i = 0; i < c.here.size(); ++i) {
        measured = measured || c.here[i];
        if (!c.here[i] || !c.here[i]->error) continue;
        judged.push_back(i);
        const int side = side_of(c, *c.here[i]);
        (side > 0 ? inside : side < 0 ? outside : unclear).push_back(i);
    }
    if (judged.empty()) {
        if (measured) c.reason = "no standard error, which takes two sequences";
        if (c.reason.empty()) c.reason = "not measured";
        return;
    }
    c.verdict = !outside.empty() ? verdict::does_not_hold : !unclear.empty() ? verdict::undecided : verdict::holds;
    c.reason.clear();
    const std::string at = c.by_size ? "at " : "for ";
    const auto add = [&](const std::string& reason) { c.reason += (c.reason.empty() ? "" : "; ") + reason; };
    if (!inside.empty() && inside.size() < judged.size()) add("holds " + at + list_columns(c, inside, ""));
    if (!outside.empty()) add("not " + at + list_columns(c, outside, "any of them"));
    if (!unclear.empty()) add("within the error " + at + list_columns(c, unclear, "all of them"));
    if (judged.size() < c.here.size()) add("measured " + at + list_columns(c, judged, "") + " only");
}

std::string bounds_text(const claim& c) {
    const auto number = [](double bound) { return fixed(bound, bound == std::floor(bound) ? 0 : 2); };
    std::string text;
    if (std::isfinite(c.low)) text = "more than " + number(c.low);
    if (std::isfinite(c.high)) text += (text.empty() ? "less than " : " and less than ") + number(c.high);
    return text;
}

std::vector<claim> perplexity_claims(const paper_findings& f) {
    std::vector<claim> claims{window_collapses(f)};
    const auto add = [&](const char* text, const char* a, const char* b, double low, double high) {
        claims.push_back(compare_policies(f, text, a, b));
        claims.back().low = low;
        claims.back().high = high;
    };
    constexpr double any = std::numeric_limits<double>::infinity();
    add("One sink is nearly as good as four", "window+1", "window+4", -any, 1);
    add("TOVA is better than H2O", "tova", "h2o", -any, 0);
    add("TOVA is better than a window with sinks", "tova", "window+4", -any, 0);
    add("TOVA is better per layer than per head", "tova", "tova_head", -any, 0);
    add("A sink improves TOVA by less than 1 %", "tova+1", "tova", -1, any);
    add("Four sinks improve TOVA by less than 1 %", "tova+4", "tova", -1, any);
    claims.push_back(near_full(f));
    claims.push_back(others_need_half(f));
    claims.push_back(shorter_context_is_worse(f));
    for (claim& c : claims) judge(c);
    return claims;
}

std::vector<claim> batch_claims(const paper_findings& f) {
    const auto begin = [&](const char* text, const char* measure) {
        return claim{.text = text,
                     .measure = measure,
                     .columns = share_columns(paper_table_1_parts),
                     .here = std::vector<std::optional<ms::estimate>>(paper_table_1_parts.size()),
                     .digits = 2,
                     .reason = f.no_batches};
    };
    claim memory = begin("The memory of a sequence falls in proportion to k",
                         "bytes of a cache as a share of full, divided by k / context");
    memory.high = 1.25;
    claim speed = begin("In the same memory, the fewer states the more tokens per second",
                        "tokens per second divided by those of the next larger k");
    speed.low = 1;
    claim latency =
        begin("A step of the larger batch takes longer than one of full", "seconds of a step divided by those of full");
    latency.low = 1;
    for (std::size_t i = 0; i < paper_table_1_parts.size(); ++i) {
        const paper_batch& row = paper_batches[i];
        const paper_batch& larger = i + 1 < paper_batches.size() ? paper_batches[i + 1] : paper_full_batch;
        memory.paper.push_back(row.gigabytes / paper_full_batch.gigabytes *
                               static_cast<double>(paper_table_1_parts[i]));
        speed.paper.push_back(row.throughput / larger.throughput);
        latency.paper.push_back(row.batch / paper_full_batch.batch / row.throughput);
        if (f.batches.empty()) continue;
        const batch_row &full = f.batches.front(), &here = f.batches[i + 1];
        memory.here[i] = {bytes_in_proportion(here, full), 0.0};
        if (full.seconds.empty()) continue;
        speed.here[i] = relative_throughput(here, i + 2 < f.batches.size() ? f.batches[i + 2] : full);
        latency.here[i] = relative_latency(here, full);
    }
    for (claim* c : {&memory, &speed, &latency}) judge(*c);
    return {memory, speed, latency};
}

std::string throughput_parts(const paper_findings& f) {
    if (f.batches.empty() || f.batches.front().seconds.empty()) return {};
    const batch_row &full = f.batches.front(), &least = f.batches[1];
    const auto share = [](const batch_row& row) {
        ms::estimate percent = row.attention_share();
        percent.value *= 100;
        if (percent.error) *percent.error *= 100;
        if (percent.value <= 2 * percent.error.value_or(0)) return std::string("too little to measure");
        return with_error(percent, 0) + " %";
    };
    batch_row empty = least;
    empty.seconds = least.empty_seconds;
    const std::string size = "1/" + std::to_string(paper_table_1_parts.front());
    return "The share of a step that is work on cached states: of full " + share(full) + ", at " + size + " " +
           share(least) + ". At " + size + " the larger batch alone would give " +
           with_error(throughput_by_batch(least, full), 2) + " times full's throughput, fewer states alone " +
           with_error(throughput_by_states(least, full), 2) + " times. Even with empty caches, a batch of " +
           std::to_string(least.batch) + " would reach " + with_error(relative_throughput(empty, full), 2) +
           " times full's throughput, no more.";
}

std::vector<claim> retention_claims(const paper_findings& f) {
    std::vector<claim> claims;
    const auto add = [&](claim c, auto value) {
        c.columns = share_columns(paper_table_1_parts);
        c.reason = f.no_retention;
        for (const auto& r : f.retained) c.here.push_back(r ? value(*r) : std::nullopt);
        judge(c);
        claims.push_back(std::move(c));
    };
    using found = std::optional<ms::estimate>;
    add({.text = "Less than 80 % of the kept states are recent",
         .measure = "percent of the survivors of a step that are among the newest k positions",
         .high = 80,
         .paper_text = std::string(paper_recent_share) + " percent"},
        [](const retention& r) { return found(r.recent); });
    add({.text = "The first token is kept to the end",
         .measure = "percent of layers and sequences that hold it at the end",
         .low = 99,
         .paper_text = "all hold it"},
        [](const retention& r) { return found(r.first_to_the_end); });
    add({.text = "Positions 1 to 4 are kept to the end less often than the average token",
         .measure = "percent of them that are held at the end, divided by that of all tokens",
         .high = 1,
         .paper_text = "they leave soon",
         .digits = 2},
        [](const retention& r) { return found(divided(r.next_to_the_end, r.all_to_the_end)); });
    for (std::size_t i = 0; i < paper_classes.size(); ++i) {
        claims.push_back(class_is_kept(f, i));
        judge(claims.back());
    }
    return claims;
}

std::span<const incomparable> incomparables() {
    static constexpr std::array<incomparable, 8> all{{
        {"Table 3, H2O-layer",
         "its published row equals Window+1 in all columns, probably by mistake; "
         "h2o_layer is measured here without a counterpart"},
        {"Perplexities themselves", "another model and another text: shares of full are compared instead"},
        {"Mistral-7B and Yi-7B", "one model is measured at a time (--model)"},
        {"SQuALITY and QASPER", "need their data sets and a model that follows instructions"},
        {"Stories judged by GPT-4", "needs a judge that is no part of this program"},
        {"70,000 tokens with k = 512",
         "the formula that compresses the gaps between positions is published without "
         "code and only for that experiment"},
        {"Table 2, part-of-speech tags (POS, NNPS, $, TO, MD, ...)", "need a tagger"},
        {"Table 1, absolute speed", "a V100 there, the processor of this machine here"},
    }};
    return all;
}

}  // namespace demo
