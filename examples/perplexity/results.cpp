#include "results.hpp"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iomanip>
#include <limits>
#include <ostream>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "recall_json.hpp"
#include "report.hpp"

namespace demo {

namespace {

using json = nlohmann::ordered_json;

/// FNV-1a, 64 bits.
class hash {
  public:
    void add(std::span<const std::byte> bytes) {
        for (const std::byte b : bytes) value_ = (value_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3U;
    }
    [[nodiscard]] std::string text() const {
        std::ostringstream out;
        out << std::hex << std::setw(16) << std::setfill('0') << value_;
        return out.str();
    }

  private:
    std::uint64_t value_ = 0xcbf29ce484222325U;
};

/// NaN, which JSON does not have, is null.
json number(double value) { return std::isfinite(value) ? json(value) : json(); }
double number(const json& value) {
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}
template <class Number>
json optional(const std::optional<Number>& value) {
    return value ? json(*value) : json();
}

json about_in_json(const provenance& p) {
    return {{"model", p.model},
            {"model_bytes", p.model_bytes},
            {"model_fingerprint", p.model_fingerprint},
            {"model_shape",
             {{"layers", p.layers},
              {"heads", p.heads},
              {"kv_heads", p.kv_heads},
              {"key_dim", p.key_dim},
              {"value_dim", p.value_dim},
              {"width", p.width},
              {"vocabulary", p.vocabulary},
              {"trained_context", p.trained_context}}},
            {"text", p.text},
            {"text_fingerprint", p.text_fingerprint},
            {"context", p.context},
            {"limit", optional(p.limit)},
            {"prefill", p.prefill},
            {"block", p.block},
            {"threads", p.threads},
            {"cpu", p.cpu},
            {"target", p.target},
            {"version", p.version},
            {"date", p.date}};
}

provenance about_from_json(const json& j) {
    provenance p;
    p.model = j.at("model");
    p.model_bytes = j.at("model_bytes");
    p.model_fingerprint = j.at("model_fingerprint");
    const json& shape = j.at("model_shape");
    p.layers = shape.at("layers");
    p.heads = shape.at("heads");
    p.kv_heads = shape.at("kv_heads");
    p.key_dim = shape.at("key_dim");
    p.value_dim = shape.at("value_dim");
    p.width = shape.at("width");
    p.vocabulary = shape.at("vocabulary");
    p.trained_context = shape.at("trained_context");
    p.text = j.at("text");
    p.text_fingerprint = j.at("text_fingerprint");
    p.context = j.at("context");
    if (!j.at("limit").is_null()) p.limit = j.at("limit").get<std::size_t>();
    p.prefill = j.at("prefill");
    p.block = j.at("block");
    p.threads = j.at("threads");
    p.cpu = j.at("cpu");
    p.target = j.at("target");
    p.version = j.at("version");
    p.date = j.at("date");
    return p;
}

void add_outcome(json& j, const outcome& m, const outcome* full) {
    j["ppl"] = number(m.perplexity());
    j["ppl_error"] = optional(m.standard_error());
    if (full != nullptr) {
        const ms::estimate above = compare(m, *full);
        j["percent_above_full"] = number(above.value);
        j["percent_above_full_error"] = optional(above.error);
    }
    j["nll_sum"] = m.nll_sum();
    j["tokens"] = m.tokens();
    j["nll_by_sequence"] = json::array();
    j["tokens_by_sequence"] = json::array();
    for (const ms::likelihood& s : m.sequences) {
        j["nll_by_sequence"].push_back(s.nll);
        j["tokens_by_sequence"].push_back(s.tokens);
    }
    j["nll_by_position"] = json::array();
    for (const double nll : m.nll_by_position) j["nll_by_position"].push_back(number(nll));
    if (m.fidelity) {
        j["kl_mean"] = number(m.fidelity->kl.mean);
        j["kl_median"] = number(m.fidelity->kl.median);
        j["kl_99"] = number(m.fidelity->kl.percentile_99);
        j["same_top"] = m.fidelity->same_top;
        j["probability_change"] = m.fidelity->probability_change;
    }
    j["cache_bytes"] = m.bytes.cache;
    j["row_bytes"] = m.bytes.rows;
    j["bookkeeping_bytes"] = m.bytes.bookkeeping();
    j["scratch_bytes"] = m.bytes.scratch;
    j["state_bytes"] = m.bytes.state;
    j["cache_bytes_at_32k"] = m.bytes.cache_at_32k;
    j["seconds"] = m.seconds;
    j["tokens_per_second"] = tokens_per_second(m);
    if (m.forgot_nothing) j["forgot_nothing"] = true;
    for (const layer_budget& b : m.budget) j["budget"].push_back({b.least, b.most});
    if (!m.budget.empty()) j["mean_budget"] = m.mean_budget;
}

outcome outcome_from(const json& j) {
    outcome m;
    const json& nll = j.at("nll_by_sequence");
    const json& tokens = j.at("tokens_by_sequence");
    if (nll.size() != tokens.size())
        throw std::runtime_error("nll_by_sequence and tokens_by_sequence differ in length");
    for (std::size_t i = 0; i < nll.size(); ++i) m.sequences.push_back({number(nll[i]), tokens[i]});
    for (const json& part : j.at("nll_by_position")) m.nll_by_position.push_back(number(part));
    if (j.contains("kl_mean")) {
        m.fidelity = {.kl = {.mean = number(j.at("kl_mean")),
                             .median = number(j.at("kl_median")),
                             .percentile_99 = number(j.at("kl_99"))},
                      .same_top = j.at("same_top"),
                      .probability_change = j.at("probability_change")};
    }
    m.bytes = {.cache = j.at("cache_bytes"),
               .rows = j.at("row_bytes"),
               .scratch = j.at("scratch_bytes"),
               .state = j.at("state_bytes"),
               .cache_at_32k = j.at("cache_bytes_at_32k")};
    m.seconds = j.at("seconds");
    m.forgot_nothing = j.value("forgot_nothing", false);
    if (j.contains("budget")) {
        for (const json& b : j.at("budget")) m.budget.push_back({b.at(0), b.at(1)});
        m.mean_budget = j.at("mean_budget");
    }
    return m;
}

json run_in_json(const run& r, const outcome* full) {
    json j{{"policy", r.what.policy.text}, {"states", r.what.states}, {"codec", r.what.codec}};
    if (r.what.policy.slack) j["slack"] = r.what.policy.slack_at(r.what.states);
    add_outcome(j, r.result, full);
    return j;
}

run run_from(const json& j, const provenance& about) {
    const std::string policy = j.at("policy");
    if (policy == shorter_context_name) {
        return {.what = shorter_context(j.at("states"), about.block), .result = outcome_from(j)};
    }
    if (policy == oracle_name || policy == oracle_layer_name) {
        const ms::per scope = policy == oracle_name ? ms::per::head : ms::per::layer;
        return {.what = attention_oracle(j.at("states"), scope), .result = outcome_from(j)};
    }
    return {.what = setting_from(j, about), .result = outcome_from(j)};
}

results results_from(const json& j) {
    results all;
    all.about = about_from_json(j);
    all.complete = j.at("complete");
    if (!j.at("full").is_null()) all.full = outcome_from(j.at("full"));
    for (const json& r : j.at("runs")) all.runs.push_back(run_from(r, all.about));
    for (const json& s : j.at("shared_states")) {
        all.shared.push_back({s.at("a"), s.at("b"), s.at("states"), s.at("codec"), number(s.at("share"))});
    }
    if (j.contains("recall")) all.recall = recall_from(j.at("recall"), all.about);
    return all;
}

std::string model_of(const provenance& p) {
    return p.model + " of " + grouped(p.model_bytes) + " bytes (" + p.model_fingerprint + ")";
}

std::string text_of(const provenance& p) {
    return p.text + " (--context " + std::to_string(p.context) +
           (p.limit ? ", --limit " + std::to_string(*p.limit) : std::string()) + ", tokens " + p.text_fingerprint + ")";
}

}  // namespace

std::string fingerprint(std::span<const std::byte> bytes) {
    constexpr std::size_t sample = 4096, samples = 4096;
    hash h;
    const std::size_t size = bytes.size();
    h.add(std::as_bytes(std::span(&size, 1)));
    const std::size_t step = std::max(sample, size / samples);
    for (std::size_t at = 0; at < size; at += step) h.add(bytes.subspan(at, std::min(sample, size - at)));
    return h.text();
}

std::string fingerprint(std::span<const sequence> sequences) {
    hash h;
    for (const sequence& s : sequences) {
        const std::size_t size = s.size();
        h.add(std::as_bytes(std::span(&size, 1)));
        h.add(std::as_bytes(std::span(s)));
    }
    return h.text();
}

provenance provenance_of(const options& o, const gguf& file, const llama& model, std::span<const sequence> sequences,
                         std::size_t context, std::time_t now) {
    const llama_config& c = model.config();
    std::ostringstream date;
    date << std::put_time(std::gmtime(&now), "%Y-%m-%dT%H:%M:%SZ");
    return {.model = model_name(o),
            .model_bytes = file.size_bytes(),
            .model_fingerprint = fingerprint(file.bytes()),
            .layers = c.layers,
            .heads = c.heads,
            .kv_heads = c.kv_heads,
            .key_dim = c.key_dim,
            .value_dim = c.value_dim,
            .width = c.width,
            .vocabulary = c.vocabulary,
            .trained_context = static_cast<std::size_t>(trained_length(file)),
            .text = text_name(o),
            .text_fingerprint = fingerprint(sequences),
            .context = context,
            .limit = o.limit,
            .prefill = o.prefill,
            .block = o.block,
            .threads = o.threads,
            .cpu = processor_name(),
            .target = std::string(ms::target_name()),
            .version = MULTISTATE_VERSION,
            .date = date.str()};
}

void write_json(std::ostream& out, const results& all) {
    json result = about_in_json(all.about);
    const outcome* full = all.full ? &*all.full : nullptr;
    result["complete"] = all.complete;
    result["full"] = json();
    if (full != nullptr) add_outcome(result["full"], *full, nullptr);
    result["runs"] = json::array();
    for (const run& r : all.runs) result["runs"].push_back(run_in_json(r, full));
    result["shared_states"] = json::array();
    for (const shared_share& s : all.shared) {
        result["shared_states"].push_back(
            {{"a", s.a}, {"b", s.b}, {"states", s.states}, {"codec", s.codec}, {"share", number(s.share)}});
    }
    if (all.recall) result["recall"] = in_json(*all.recall);
    out << result.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

results read_json(const std::string& text, const std::string& name) {
    try {
        return results_from(json::parse(text));
    } catch (const json::exception& problem) {
        const std::string what = problem.what();
        throw std::runtime_error(name + ": is no result of perplexity --json: " + what.substr(what.find("] ") + 2));
    } catch (const std::exception& problem) {
        throw std::runtime_error(name + ": is no result of perplexity --json: " + problem.what());
    }
}

void refuse_other(const provenance& before, const provenance& now, const std::string& name) {
    const auto refuse = [&](const std::string& then, const std::string& today) {
        throw std::runtime_error(name + ": was measured with " + then + ", not with " + today);
    };
    if (before.model_bytes != now.model_bytes || before.model_fingerprint != now.model_fingerprint) {
        refuse("model " + model_of(before), model_of(now));
    }
    if (before.text_fingerprint != now.text_fingerprint) refuse("text " + text_of(before), text_of(now));
    if (before.prefill != now.prefill) refuse("--prefill " + before.prefill, "--prefill " + now.prefill);
    if (before.block != now.block) {
        refuse("--block " + std::to_string(before.block), "--block " + std::to_string(now.block));
    }
}

const run* find_run(std::span<const run> runs, const setting& what) {
    const auto found = std::ranges::find_if(runs, [&](const run& r) { return same(r.what, what); });
    return found == runs.end() ? nullptr : &*found;
}

void write_nll(std::ostream& out, const measurement& m) {
    out << std::setprecision(9);
    for (const auto& part : m.nll) {
        for (const double nll : part) out << nll << '\n';
    }
}

void write_trace(std::ostream& out, const measurement& m) {
    out << "sequence,step,layer,kv_head,position\n";
    for (const forgetting& f : m.forgotten) {
        out << f.sequence << ',' << f.step << ',' << f.layer << ',' << f.kv_head << ',' << f.position << '\n';
    }
}

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

}  // namespace demo
