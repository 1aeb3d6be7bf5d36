#include "llama.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace demo {

namespace {

Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }

/// A size from the metadata, at least 1 and small enough that no product of a few overflows.
std::size_t size_from(const gguf& file, std::string_view key, std::uint64_t value) {
    constexpr std::uint64_t most = 1u << 24;
    if (value < 1 || value > most) throw file.wrong_value(key, "1 to " + std::to_string(most) + " are supported");
    return static_cast<std::size_t>(value);
}
std::size_t size_from(const gguf& file, std::string_view key) { return size_from(file, key, file.integer(key)); }
std::size_t size_or(const gguf& file, std::string_view key, std::size_t fallback) {
    return size_from(file, key, file.integer(key, fallback));
}

double positive(const gguf& file, std::string_view key, double fallback) {
    const double value = file.real(key, fallback);
    if (!(value > 0)) throw file.wrong_value(key, "it must be positive");
    return value;
}

/// How far positions are stretched. Only the linear kind of scaling is known here.
double read_rope_scale(const gguf& file) {
    const std::string_view type = file.string("llama.rope.scaling.type", "none");
    if (type == "none") return positive(file, "llama.rope.scale_linear", 1);
    if (type != "linear") throw file.wrong_value("llama.rope.scaling.type", "none and linear are supported");
    return positive(file, "llama.rope.scaling.factor", 1);
}

llama_config read_config(const gguf& file) {
    if (file.string("general.architecture") != "llama") {
        throw file.wrong_value("general.architecture", "only llama is supported");
    }
    if (file.integer("llama.expert_count", 0) != 0) {
        throw file.wrong_value("llama.expert_count", "mixtures of experts are not supported, only 0");
    }
    llama_config c{};
    c.width = size_from(file, "llama.embedding_length");
    c.layers = size_from(file, "llama.block_count");
    c.heads = size_from(file, "llama.attention.head_count");
    c.kv_heads = size_or(file, "llama.attention.head_count_kv", c.heads);
    if (c.heads % c.kv_heads != 0) {
        throw file.wrong_value("llama.attention.head_count_kv",
                               "it must divide the head count, " + std::to_string(c.heads));
    }
    const std::size_t head_dim = c.width / c.heads;
    if (c.width % c.heads != 0 && !file.has("llama.attention.key_length")) {
        throw file.wrong_value("llama.attention.head_count",
                               "it must divide the embedding length, " + std::to_string(c.width));
    }
    c.key_dim = size_or(file, "llama.attention.key_length", head_dim);
    c.value_dim = size_or(file, "llama.attention.value_length", head_dim);
    c.feed_forward = size_from(file, "llama.feed_forward_length");
    c.norm_epsilon = static_cast<float>(positive(file, "llama.attention.layer_norm_rms_epsilon", 1e-5));
    c.rope_dim = size_or(file, "llama.rope.dimension_count", c.key_dim);
    if (c.rope_dim > c.key_dim || c.rope_dim % 2 != 0) {
        throw file.wrong_value("llama.rope.dimension_count",
                               "even numbers up to the key length, " + std::to_string(c.key_dim) + ", are supported");
    }
    c.rope_base = positive(file, "llama.rope.freq_base", 10000);
    c.rope_scale = read_rope_scale(file);
    const tensor_view& embedding = file.tensor("token_embd.weight");
    if (embedding.shape.size() != 2 || embedding.columns() != c.width) {
        throw file.error("tensor 'token_embd.weight' must be a matrix of " + std::to_string(c.width) + " columns");
    }
    c.vocabulary = embedding.rows();
    return c;
}

std::vector<float> read_vector(const gguf& file, const std::string& name, std::size_t size) {
    const tensor_view& t = file.tensor(name, {size});
    std::vector<float> values(size);
    dequantize(t.type, t.data, values);
    return values;
}

/// Whether all weights fit in 8 GiB as floats: then they are decoded once, else panel by panel at each use.
bool is_small(const gguf& file) {
    std::size_t elements = 0;
    for (const tensor_view& t : file.tensors()) elements += t.elements();
    return elements <= (std::size_t{8} << 30) / sizeof(float);
}

}  // namespace

linear::linear(const gguf& file, const std::string& name, std::size_t columns, std::size_t rows, bool decode)
    : tensor_(&file.tensor(name + ".weight", {columns, rows})), rows_(rows), columns_(columns) {
    if (decode) {
        for (std::size_t i = 0; i < panels(); ++i) decoded_.push_back(decode_panel(i));
    }
    if (file.find_tensor(name + ".bias") != nullptr) bias_ = read_vector(file, name + ".bias", rows);
}

matrix linear::decode_panel(std::size_t i) const {
    const std::size_t count = panel_rows(i);
    const std::size_t bytes = bytes_of(tensor_->type, columns_);
    matrix rows(index(count), index(columns_));
    dequantize(tensor_->type, tensor_->data.subspan(i * panel * bytes, count * bytes),
               std::span(rows.data(), static_cast<std::size_t>(rows.size())));
    return rows.transpose();
}

void linear::read_row(std::size_t i, std::span<float> out) const {
    const std::size_t bytes = bytes_of(tensor_->type, columns_);
    dequantize(tensor_->type, tensor_->data.subspan(i * bytes, bytes), out);
}

void linear::multiply_panel(std::size_t i, const matrix& x, matrix& y, bool accumulate) const {
    const matrix fresh = decoded_.empty() ? decode_panel(i) : matrix();
    const matrix& w = decoded_.empty() ? fresh : decoded_[i];
    auto target = y.middleCols(index(i * panel), w.cols());
    if (accumulate) {
        target.noalias() += x * w;
    } else {
        target.noalias() = x * w;
    }
    if (!bias_.empty()) target.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias_.data() + i * panel, w.cols());
}

llama::llama(const gguf& file, ms::thread_pool& pool)
    : pool_(pool),
      config_(read_config(file)),
      final_norm_(read_vector(file, "output_norm.weight", config_.width)),
      weights_(read_weights(file)) {
    read_rope_factors(file);
    if (file.has("llama.attention.sliding_window")) {
        notes_.push_back("the sliding window of " + std::to_string(file.integer("llama.attention.sliding_window")) +
                         " tokens that the model was trained with is ignored");
    }
}

std::shared_ptr<const llama::parts> llama::read_weights(const gguf& file) const {
    const bool decode = is_small(file);
    const bool tied = file.find_tensor("output.weight") == nullptr;  // else rows of the embedding are read, no more
    auto w = std::make_shared<parts>(
        parts{linear(file, "token_embd", config_.width, config_.vocabulary, decode && tied), {}, {}});
    for (std::size_t i = 0; i < config_.layers; ++i) w->layers.push_back(read_layer(file, i, decode));
    if (!tied) {
        w->separate_output.emplace_back(file, "output", config_.width, config_.vocabulary, decode);
    }
    return w;
}

llama::layer llama::read_layer(const gguf& file, std::size_t i, bool decode) const {
    const llama_config& c = config_;
    const std::string name = "blk." + std::to_string(i) + ".";
    return {.attention_norm = read_vector(file, name + "attn_norm.weight", c.width),
            .feed_forward_norm = read_vector(file, name + "ffn_norm.weight", c.width),
            .query = linear(file, name + "attn_q", c.width, c.heads * c.key_dim, decode),
            .key = linear(file, name + "attn_k", c.width, c.kv_heads * c.key_dim, decode),
            .value = linear(file, name + "attn_v", c.width, c.kv_heads * c.value_dim, decode),
            .output = linear(file, name + "attn_output", c.heads * c.value_dim, c.width, decode),
            .gate = linear(file, name + "ffn_gate", c.width, c.feed_forward, decode),
            .up = linear(file, name + "ffn_up", c.width, c.feed_forward, decode),
            .down = linear(file, name + "ffn_down", c.feed_forward, c.width, decode)};
}

void llama::read_rope_factors(const gguf& file) {
    const std::size_t pairs = config_.rope_dim / 2;
    // Llama 3 stretches slow frequencies more than fast ones
    if (file.find_tensor("rope_freqs.weight") != nullptr) rope_factors_ = read_vector(file, "rope_freqs.weight", pairs);
    for (std::size_t i = 0; i < pairs; ++i) {
        const float factor = rope_factors_.empty() ? 1 : rope_factors_[i];
        if (!(factor > 0)) throw file.error("tensor 'rope_freqs.weight' must hold positive numbers");
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config_.rope_dim);
        frequencies_.push_back(std::pow(config_.rope_base, exponent) / config_.rope_scale /
                               static_cast<double>(factor));
    }
}

ms::rope llama::rope() const noexcept {
    ms::rope result;
    result.base = static_cast<float>(config_.rope_base);
    result.adjacent = true;
    result.rotated = config_.rope_dim;
    result.stretch = static_cast<float>(config_.rope_scale);
    result.slower = rope_factors_;
    return result;
}

ms::shape llama::cache_shape(std::size_t states, std::size_t block) const {
    return {.layers = config_.layers,
            .heads = config_.heads,
            .kv_heads = config_.kv_heads,
            .head_dim = config_.key_dim,
            .value_dim = config_.value_dim,
            .states = states,
            .block = block};
}

void llama::set_rotations(ms::position first, std::size_t tokens) {
    cosine_.resize(index(tokens), index(frequencies_.size()));
    sine_.resize(cosine_.rows(), cosine_.cols());
    for (Eigen::Index t = 0; t < cosine_.rows(); ++t) {
        for (Eigen::Index i = 0; i < cosine_.cols(); ++i) {
            const double angle = static_cast<double>(first + t) * frequencies_[static_cast<std::size_t>(i)];
            cosine_(t, i) = static_cast<float>(std::cos(angle));
            sine_(t, i) = static_cast<float>(std::sin(angle));
        }
    }
}

void llama::embed(std::span<const token> tokens, matrix& hidden) {
    hidden.resize(index(tokens.size()), index(config_.width));
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        weights_->embedding.read_row(static_cast<std::size_t>(tokens[t]),
                                     {hidden.data() + t * config_.width, config_.width});
    }
}

void llama::multiply(std::initializer_list<const linear*> weights, const matrix& x, std::initializer_list<matrix*> y,
                     bool accumulate) {
    std::size_t panels = 0;
    auto result = y.begin();
    for (const linear* w : weights) {
        (*result++)->resize(x.rows(), index(w->rows()));  // no change where it has that size
        panels += w->panels();
    }
    pool_.run(panels, [&](std::size_t i) {
        auto target = y.begin();
        for (const linear* w : weights) {
            if (i < w->panels()) return w->multiply_panel(i, x, **target, accumulate);
            i -= w->panels();
            ++target;
        }
    });
}

void llama::normalize(const Eigen::Ref<const matrix>& x, std::span<const float> weight, matrix& y) {
    y.resize(x.rows(), x.cols());
    const Eigen::Map<const Eigen::RowVectorXf> w(weight.data(), x.cols());
    pool_.run(static_cast<std::size_t>(x.rows()), [&](std::size_t i) {
        const auto row = x.row(index(i));
        const float mean = row.squaredNorm() / static_cast<float>(x.cols());
        y.row(index(i)) = row.cwiseProduct(w) / std::sqrt(mean + config_.norm_epsilon);
    });
}

/// RoPE on interleaved pairs, the convention of llama models in GGUF.
void llama::rotate(matrix& heads_of_tokens, std::size_t heads) {
    pool_.run(static_cast<std::size_t>(heads_of_tokens.rows()), [&](std::size_t t) {
        const float* cosine = cosine_.row(index(t)).data();
        const float* sine = sine_.row(index(t)).data();
        for (std::size_t h = 0; h < heads; ++h) {
            float* x = heads_of_tokens.row(index(t)).data() + h * config_.key_dim;
            for (std::size_t i = 0; i < config_.rope_dim / 2; ++i) {
                const float a = x[2 * i];
                const float b = x[2 * i + 1];
                x[2 * i] = a * cosine[i] - b * sine[i];
                x[2 * i + 1] = a * sine[i] + b * cosine[i];
            }
        }
    });
}

void llama::project(const layer& part, const matrix& hidden) {
    normalize(hidden, part.attention_norm, normal_);
    multiply({&part.query, &part.key, &part.value}, normal_, {&query_, &key_, &value_});
    rotate(query_, config_.heads);
    rotate(key_, config_.kv_heads);
}

void llama::feed_forward(const layer& part, matrix& hidden) {
    normalize(hidden, part.feed_forward_norm, normal_);
    multiply({&part.gate, &part.up}, normal_, {&gate_, &up_});
    pool_.run(static_cast<std::size_t>(gate_.rows()), [&](std::size_t i) {
        auto gate = gate_.row(index(i)).array();
        gate = gate / (1 + (-gate).exp()) * up_.row(index(i)).array();  // silu(gate) * up
    });
    multiply({&part.down}, gate_, {&hidden}, true);
}

void llama::negative_log_likelihoods(const matrix& hidden, std::span<const token> targets, std::span<double> nll) {
    const auto& separate = weights_->separate_output;
    const linear& output = separate.empty() ? weights_->embedding : separate.front();
    constexpr std::size_t slice = 64;  // a large vocabulary times a whole prompt would not fit in memory
    for (std::size_t begin = 0; begin < targets.size(); begin += slice) {
        const std::size_t count = std::min(slice, targets.size() - begin);
        normalize(hidden.middleRows(index(begin), index(count)), final_norm_, normal_);
        multiply({&output}, normal_, {&logits_});
        pool_.run(count, [&](std::size_t i) {
            const auto row = logits_.row(index(i)).array();
            const float greatest = row.maxCoeff();
            const float sum = (row - greatest).exp().sum();
            nll[begin + i] = std::log(static_cast<double>(sum)) + static_cast<double>(greatest) -
                             static_cast<double>(row(index(static_cast<std::size_t>(targets[begin + i]))));
        });
    }
}

}  // namespace demo
