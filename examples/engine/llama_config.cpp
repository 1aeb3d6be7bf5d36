#include "llama_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace demo {

namespace {

constexpr std::uint64_t largest_size = 1U << 24;  // no product of two overflows

/// Keys of a model begin with its architecture.
std::string full(const gguf& file, std::string_view name) {
    return std::string(file.string("general.architecture")).append(".").append(name);
}

// ---- Sizes ----------------------------------------------------------------------------------------------------------

std::size_t size_from(const gguf& file, std::string_view key, std::uint64_t value) {
    if (value < 1 || value > largest_size) {
        throw file.wrong_value(key, "1 to " + std::to_string(largest_size) + " are supported");
    }
    return static_cast<std::size_t>(value);
}

std::size_t size_of(const gguf& file, std::string_view name) {
    return size_from(file, full(file, name), file.integer(full(file, name)));
}

/// A size that a file may give for each layer, where all are equal.
std::size_t size_of_layers(const gguf& file, std::string_view name, std::size_t layers) {
    const std::string key = full(file, name);
    if (!file.is_array(key)) return size_of(file, name);
    const std::vector<std::int64_t> sizes = file.integers(key);
    if (sizes.size() != layers) {
        throw file.wrong_value(key, "one entry for each of " + std::to_string(layers) + " layers is expected");
    }
    const auto other = std::ranges::find_if(sizes, [&](std::int64_t each) { return each != sizes.front(); });
    if (other != sizes.end()) {
        throw file.wrong_value(key, "layers that differ are not supported: layer 0 has " +
                                        std::to_string(sizes.front()) + ", layer " +
                                        std::to_string(other - sizes.begin()) + " has " + std::to_string(*other));
    }
    return size_from(file, key, sizes.front() < 0 ? 0 : static_cast<std::uint64_t>(sizes.front()));
}
std::size_t size_of_layers(const gguf& file, std::string_view name, std::size_t layers, std::size_t fallback) {
    return file.has(full(file, name)) ? size_of_layers(file, name, layers) : fallback;
}

double positive(const gguf& file, std::string_view name) {
    const double value = file.real(full(file, name));
    if (!(value > 0)) throw file.wrong_value(full(file, name), "it must be positive");
    return value;
}
double positive(const gguf& file, std::string_view name, double fallback) {
    return file.has(full(file, name)) ? positive(file, name) : fallback;
}

// ---- RoPE -----------------------------------------------------------------------------------------------------------

/// As llama.cpp reads these keys: a factor without a type is linear, type none overrules every factor, and the key of
/// 2023 stands in for the factor of today.
rope_scaling read_scaling(const gguf& file, const llama_config& c) {
    rope_scaling s;
    const std::string_view type = file.string(full(file, "rope.scaling.type"), "linear");
    if (type != "none" && type != "linear" && type != "yarn") {
        throw file.wrong_value(full(file, "rope.scaling.type"), "none, linear and yarn are supported");
    }
    const double factor = positive(file, "rope.scaling.factor", positive(file, "rope.scale_linear", 1));
    if (type != "none") s.factor = factor;
    s.magnitude = positive(file, "rope.scaling.attn_factor", 1);
    if (type != "yarn") return s;
    s.yarn = true;
    s.magnitude *= 1 + 0.1 * std::log(std::max(1.0, factor));
    s.beta_fast = positive(file, "rope.scaling.yarn_beta_fast", s.beta_fast);
    s.beta_slow = positive(file, "rope.scaling.yarn_beta_slow", s.beta_slow);
    const char* const length = file.has(full(file, "rope.scaling.original_context_length"))
                                   ? "rope.scaling.original_context_length"
                                   : "context_length";
    s.original_length = static_cast<double>(size_of(file, length));
    if (c.rope_base <= 1) throw file.wrong_value(full(file, "rope.freq_base"), "YaRN needs a base greater than 1");
    return s;
}

// ---- RecurFormer ----------------------------------------------------------------------------------------------------

replaced_heads read_replaced_heads(const gguf& file, const llama_config& c) {
    const std::string prefix = full(file, "replaced_heads.");
    replaced_heads r;
    const std::string_view cell = file.string(prefix + "cell");
    if (cell != "selective" && cell != "min_gru") {
        throw file.wrong_value(prefix + "cell", "selective and min_gru are supported");
    }
    r.selective = cell == "selective";
    constexpr std::array<std::string_view, 4> sizes{"expansion", "state_size", "convolution", "delta_rank"};
    for (const std::string_view key : file.keys(prefix)) {
        const std::string_view name = key.substr(prefix.size());
        if (name == "cell" || name == "heads") continue;
        if (!r.selective || std::ranges::find(sizes, name) == sizes.end()) {
            throw file.wrong_value(key, "a " + std::string(cell) + " cell has no such key");
        }
    }
    const auto size = [&](std::string_view name, std::uint64_t most) {
        const std::string key = prefix + std::string(name);
        const std::uint64_t value = file.integer(key);
        if (value < 1 || value > most) throw file.wrong_value(key, "1 to " + std::to_string(most) + " are supported");
        return static_cast<std::size_t>(value);
    };
    if (r.selective) {
        r.expansion = size("expansion", 64);
        r.state_size = size("state_size", 256);
        r.convolution = size("convolution", 16);
        r.delta_rank = size("delta_rank", largest_size);
    }
    const std::string key = prefix + "heads";
    std::int64_t before = -1;
    for (const std::int64_t head : file.integers(key)) {
        if (head < 0 || static_cast<std::uint64_t>(head) >= c.layers * c.heads) {
            throw file.error("key " + demo::quoted(key) + " names head " + std::to_string(head) + "; " +
                             std::to_string(c.layers) + " layers of " + std::to_string(c.heads) +
                             " query heads have heads 0 to " + std::to_string(c.layers * c.heads - 1));
        }
        if (head <= before) {
            throw file.error("key " + demo::quoted(key) + " names head " + std::to_string(head) + " after " +
                             std::to_string(before) + "; the heads must rise");
        }
        before = head;
        r.heads.push_back(static_cast<std::size_t>(head));
    }
    if (before < 0) throw file.wrong_value(key, "at least one head is expected");
    return r;
}

// ---- All other keys -------------------------------------------------------------------------------------------------

/// What the keys above are for.
constexpr std::array<std::string_view, 19> applied{"attention.head_count",
                                                   "attention.head_count_kv",
                                                   "attention.key_length",
                                                   "attention.layer_norm_rms_epsilon",
                                                   "attention.sliding_window",  // noted
                                                   "attention.value_length",
                                                   "block_count",
                                                   "context_length",
                                                   "embedding_length",
                                                   "feed_forward_length",
                                                   "rope.dimension_count",
                                                   "rope.freq_base",
                                                   "rope.scale_linear",
                                                   "rope.scaling.attn_factor",
                                                   "rope.scaling.factor",
                                                   "rope.scaling.original_context_length",
                                                   "rope.scaling.type",
                                                   "rope.scaling.yarn_beta_fast",
                                                   "rope.scaling.yarn_beta_slow"};

// Known to change no number of ours: the norms are RMS norms; the pattern is that of a sliding window, which is noted;
// the rest says how the model was made, or what to do with hidden states elsewhere.
constexpr std::array<std::string_view, 5> harmless{"attention.layer_norm_epsilon", "attention.sliding_window_pattern",
                                                   "pooling_type", "rope.scaling.finetuned", "vocab_size"};

/// A key whose only supported value is the one that changes nothing.
struct neutral {
    std::string_view name;
    double value;
    std::string_view what;
};

constexpr std::array<neutral, 18> neutrals{{{"attention.clamp_kqv", 0, "clamped queries, keys and values"},
                                            {"attention.max_alibi_bias", 0, "ALiBi"},
                                            {"attention.output_scale", 1, "scaled attention"},
                                            {"attention.temperature_length", 0, "attention temperature"},
                                            {"attention.temperature_scale", 0, "attention temperature"},
                                            {"attention.value_scale", 1, "scaled values"},
                                            {"attn_logit_softcapping", 0, "soft-capped attention"},
                                            {"embedding_scale", 1, "scaled embeddings"},
                                            {"expert_count", 0, "mixtures of experts"},
                                            {"expert_used_count", 0, "mixtures of experts"},
                                            {"final_logit_softcapping", 0, "soft-capped logits"},
                                            {"logit_scale", 1, "scaled logits"},
                                            {"nextn_predict_layers", 0, "layers that predict further tokens"},
                                            {"residual_scale", 1, "scaled residuals"},
                                            {"rescale_every_n_layers", 0, "rescaled layers"},
                                            {"rope.scaling.alpha", 0, "NTK scaling by alpha"},
                                            {"rope.scaling.yarn_attn_factor", 1, "YaRN's own attention factor"},
                                            {"rope.scaling.yarn_log_multiplier", 0, "YaRN's logarithmic multiplier"}}};

struct flag {
    std::string_view name;
    bool value;
    std::string_view what;
};

constexpr std::array<flag, 3> flags{{{"attention.causal", true, "attention to later tokens"},
                                     {"swin_norm", false, "Swin norms"},
                                     {"use_parallel_residual", false, "parallel residuals"}}};

gguf_error not_supported(const gguf& file, std::string_view key, const std::string& only, std::string_view what) {
    return file.wrong_value(key, "only " + only + " is supported, no " + std::string(what));
}

/// Whether the key of this name is one that says more of the model than the sizes; refuses what is not supported.
bool check_feature(const gguf& file, std::string_view name, const llama_config& c) {
    const std::string key = full(file, name);
    if (name == "attention.scale") {
        const double usual = 1 / std::sqrt(static_cast<double>(c.key_dim));
        if (std::fabs(file.number(key) - usual) > 1e-6 * usual) {
            throw file.wrong_value(key, "only 1 / sqrt(" + std::to_string(c.key_dim) + ") is supported");
        }
        return true;
    }
    if (name == "rope.scaling.yarn_ext_factor") {  // how much of YaRN is mixed in
        const double usual = c.scaling.yarn ? 1 : 0;
        if (file.number(key) != usual) throw not_supported(file, key, usual == 1 ? "1" : "0", "part of YaRN");
        return true;
    }
    if (name == "tensor_data_layout") {
        const std::string_view layout = file.string(key);
        if (layout != "Meta AI original pth" && layout != "reference") {
            throw file.wrong_value(key, "'Meta AI original pth' and 'reference' are supported");
        }
        return true;
    }
    for (const neutral& each : neutrals) {
        if (each.name != name) continue;
        if (file.number(key) != each.value) {
            throw not_supported(file, key, std::to_string(std::llround(each.value)), each.what);
        }
        return true;
    }
    for (const flag& each : flags) {
        if (each.name != name) continue;
        if (file.boolean(key) != each.value) throw not_supported(file, key, each.value ? "true" : "false", each.what);
        return true;
    }
    return false;
}

void check_keys(const gguf& file, const llama_config& c, std::vector<std::string>& notes) {
    const std::string prefix = full(file, "");
    for (const std::string_view key : file.keys(prefix)) {
        const std::string_view name = key.substr(prefix.size());
        if (c.replaced && name.starts_with("replaced_heads.")) continue;  // read_replaced_heads knows them all
        if (std::ranges::find(applied, name) != applied.end()) continue;
        if (std::ranges::find(harmless, name) != harmless.end()) continue;
        if (check_feature(file, name, c)) continue;
        if (name.starts_with("attention.") || name.starts_with("rope.")) {
            throw file.wrong_value(key, "no such key of attention or RoPE is supported");
        }
        notes.push_back("key " + demo::quoted(key) + " is not supported and ignored");
    }
    if (const std::uint64_t length = file.integer(full(file, "context_length"), 2); length < 2) {
        notes.push_back("key " + demo::quoted(full(file, "context_length")) + " is " + std::to_string(length) +
                        ", less than any sequence, and ignored");
    }
    if (const std::uint64_t window = file.integer(full(file, "attention.sliding_window"), 0); window != 0) {
        notes.push_back("the sliding window of " + std::to_string(window) +
                        " tokens that the model was trained with is ignored");
    }
}

}  // namespace

llama_config read_llama_config(const gguf& file, std::vector<std::string>& notes) {
    refuse_parts(file, 0);
    const std::string_view architecture = file.string("general.architecture");
    if (architecture != "llama" && architecture != "recurformer") {
        throw file.wrong_value("general.architecture", "llama and recurformer are supported");
    }
    llama_config c{};
    c.width = size_of(file, "embedding_length");
    c.layers = size_of(file, "block_count");
    c.heads = size_of_layers(file, "attention.head_count", c.layers);
    c.kv_heads = size_of_layers(file, "attention.head_count_kv", c.layers, c.heads);
    if (c.heads % c.kv_heads != 0) {
        throw file.wrong_value(full(file, "attention.head_count_kv"),
                               "it must divide the head count, " + std::to_string(c.heads));
    }
    const std::size_t head_dim = c.width / c.heads;
    const bool head_dim_needed =
        !file.has(full(file, "attention.key_length")) || !file.has(full(file, "attention.value_length"));
    if (c.width % c.heads != 0 && head_dim_needed) {
        throw file.wrong_value(full(file, "attention.head_count"),
                               "it must divide the embedding length, " + std::to_string(c.width));
    }
    c.key_dim = size_of_layers(file, "attention.key_length", c.layers, head_dim);
    c.value_dim = size_of_layers(file, "attention.value_length", c.layers, head_dim);
    c.feed_forward = size_of_layers(file, "feed_forward_length", c.layers);
    c.norm_epsilon = static_cast<float>(positive(file, "attention.layer_norm_rms_epsilon"));
    c.rope_dim = size_of_layers(file, "rope.dimension_count", c.layers, c.key_dim);
    if (c.rope_dim > c.key_dim || c.rope_dim % 2 != 0) {
        throw file.wrong_value(full(file, "rope.dimension_count"),
                               "even numbers up to the key length, " + std::to_string(c.key_dim) + ", are supported");
    }
    c.rope_base = positive(file, "rope.freq_base", 10000);
    c.scaling = read_scaling(file, c);
    if (architecture == "recurformer") c.replaced = read_replaced_heads(file, c);
    check_keys(file, c, notes);
    const tensor_view& embedding = file.tensor("token_embd.weight");
    if (embedding.shape.size() != 2 || embedding.columns() != c.width) {
        throw file.error("tensor 'token_embd.weight' must be a matrix of " + std::to_string(c.width) + " columns");
    }
    c.vocabulary = embedding.rows();
    return c;
}

std::vector<std::size_t> replaced_heads::of_layer(std::size_t i, std::size_t heads_of_layer) const {
    const std::size_t first = i * heads_of_layer;
    std::vector<std::size_t> found(std::ranges::lower_bound(heads, first),
                                   std::ranges::lower_bound(heads, first + heads_of_layer));
    for (std::size_t& head : found) head -= first;
    return found;
}

std::uint64_t trained_length(const gguf& file) { return file.integer(full(file, "context_length"), 0); }

void refuse_excess(const gguf& file, const llama_config& c) {
    // Real models, where the width is at least 64, need less than a twentieth of what is allowed.
    constexpr double tokens = 1024;       // of a sequence
    constexpr double logits = 64;         // tokens whose logits are there at once
    constexpr double policy_numbers = 8;  // of one state in one head: position and scores
    constexpr double megabyte = 1 << 20;
    const auto number = [](std::size_t n) { return static_cast<double>(n); };
    const double head = number(c.key_dim + c.value_dim);
    const double states = number(c.layers) * number(c.kv_heads) * (head + policy_numbers);
    const double activations =
        number(c.heads) * (head + 1) + number(c.kv_heads) * head + 2 * number(c.width) + 2 * number(c.feed_forward);
    const double needed = sizeof(float) * (tokens * (states + activations) + logits * number(c.vocabulary));
    const double allowed = std::max(256 * megabyte, 128 * number(file.size_bytes()));
    if (needed <= allowed) return;
    throw file.error("a sequence of 1024 tokens would need " + std::to_string(std::llround(needed / megabyte)) +
                     " MiB: " + std::to_string(c.layers) + " layers, " + std::to_string(c.heads) + " heads on " +
                     std::to_string(c.kv_heads) + " KV heads of " + std::to_string(c.key_dim) +
                     ", feed-forward length " + std::to_string(c.feed_forward) + ", vocabulary " +
                     std::to_string(c.vocabulary) + "; a file of " + std::to_string(file.size_bytes()) +
                     " bytes may ask for " + std::to_string(std::llround(allowed / megabyte)) + " MiB");
}

std::vector<double> rope_frequencies(const llama_config& c, const std::vector<float>& factors) {
    const auto dim = static_cast<double>(c.rope_dim);
    const rope_scaling& s = c.scaling;
    // The pair that turns so often within the original length.
    const auto pair_of = [&](double turns) {
        return dim * std::log(s.original_length / (turns * 2 * std::numbers::pi)) / (2 * std::log(c.rope_base));
    };
    const double kept = s.yarn ? std::max(0.0, std::floor(pair_of(s.beta_fast))) : 0;
    const double divided = s.yarn ? std::min(dim - 1, std::ceil(pair_of(s.beta_slow))) : 0;
    std::vector<double> frequencies(c.rope_dim / 2);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const auto pair = static_cast<double>(i);
        const double divisor = factors.empty() ? 1 : static_cast<double>(factors[i]);
        const double plain = std::pow(c.rope_base, -2.0 * pair / dim);
        frequencies[i] = plain / s.factor / divisor;
        if (!s.yarn) continue;
        // Where the two ends fall together, the change is a step.
        const double share = std::clamp((pair - kept) / std::max(0.001, divided - kept), 0.0, 1.0);
        frequencies[i] = share * frequencies[i] + (1 - share) * plain / divisor;
    }
    return frequencies;
}

}  // namespace demo
