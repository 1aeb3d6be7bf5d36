#include "llama.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include <multistate/evaluation/divergence.hpp>

namespace demo {

namespace {

Eigen::Index index(std::size_t n) { return static_cast<Eigen::Index>(n); }

/// Throws if one of the values, which begin at element `first` of a tensor, is not finite.
void refuse_non_finite(const gguf& file, const tensor_view& t, std::size_t first, std::span<const float> values) {
    if (Eigen::Map<const Eigen::ArrayXf>(values.data(), index(values.size())).allFinite()) return;
    const auto bad = std::ranges::find_if(values, [](float each) { return !std::isfinite(each); });
    const std::size_t element = first + static_cast<std::size_t>(bad - values.begin());
    throw file.error("tensor " + quoted(t.name) + " is " + std::to_string(*bad) + " at index " +
                     std::to_string(element % t.columns()) + " of row " + std::to_string(element / t.columns()) +
                     "; weights must be finite");
}

std::vector<float> read_values(const gguf& file, const tensor_view& t) {
    std::vector<float> values(t.elements());
    dequantize(t.type, t.data, values);
    refuse_non_finite(file, t, 0, values);
    return values;
}

/// Whether all weights fit in 8 GiB as floats: then they are decoded once, else panel by panel at each use.
bool is_small(const gguf& file) {
    std::size_t elements = 0;
    for (const tensor_view& t : file.tensors()) elements += t.elements();
    return elements <= (std::size_t{8} << 30) / sizeof(float);
}

/// One layer as ms::kept_kv_heads asks for it.
ms::shape one_layer(const llama_config& c) {
    return {.layers = 1, .heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.key_dim};
}

}  // namespace

linear::linear(tensor_reader& tensors, const std::string& name, std::size_t columns, std::size_t rows, bias wanted)
    : tensor_(&tensors.take(name + ".weight", {columns, rows})), rows_(rows), columns_(columns) {
    if (wanted == bias::none) return;
    const tensor_view* const found = tensors.take_optional(name + ".bias", {rows});
    if (found != nullptr) bias_ = read_values(tensors.file(), *found);
}

void linear::decode(const gguf& file, bool keep) {
    for (std::size_t i = 0; i < panels(); ++i) {
        const matrix rows = decode_panel(i);
        refuse_non_finite(file, *tensor_, i * panel * columns_,
                          std::span(rows.data(), static_cast<std::size_t>(rows.size())));
        if (keep) decoded_.emplace_back(rows.transpose());
    }
}

matrix linear::decode_panel(std::size_t i) const {
    const std::size_t count = panel_rows(i);
    const std::size_t bytes = bytes_of(tensor_->type, columns_);
    matrix rows(index(count), index(columns_));
    dequantize(tensor_->type, tensor_->data.subspan(i * panel * bytes, count * bytes),
               std::span(rows.data(), static_cast<std::size_t>(rows.size())));
    return rows;
}

void linear::read_row(std::size_t i, std::span<float> out) const {
    const std::size_t bytes = bytes_of(tensor_->type, columns_);
    dequantize(tensor_->type, tensor_->data.subspan(i * bytes, bytes), out);
}

void linear::multiply_panel(std::size_t i, const matrix& x, matrix& y, bool accumulate) const {
    const matrix fresh = decoded_.empty() ? matrix(decode_panel(i).transpose()) : matrix();
    const matrix& w = decoded_.empty() ? fresh : decoded_[i];
    auto target = y.middleCols(index(i * panel), w.cols());
    if (accumulate) {
        target.noalias() += x * w;
    } else {
        target.noalias() = x * w;
    }
    if (!bias_.empty()) target.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias_.data() + i * panel, w.cols());
}

llama::llama(const gguf& file, ms::thread_pool& pool) : pool_(pool), config_(read_llama_config(file, notes_)) {
    read_weights(file);
}

/// All that can be refused at a glance is, before the first weight is decoded.
void llama::read_weights(const gguf& file) {
    const llama_config& c = config_;
    tensor_reader tensors(file);
    auto w = std::make_shared<parts>(
        parts{linear(tensors, "token_embd", c.width, c.vocabulary, linear::bias::none), {}, {}, {}});
    for (std::size_t i = 0; i < c.layers; ++i) w->layers.push_back(read_layer(tensors, i));
    final_norm_ = read_values(file, tensors.take("output_norm.weight", {c.width}));
    const bool tied = file.find_tensor("output.weight") == nullptr;
    if (!tied) {
        w->separate_output.emplace_back(tensors, "output", c.width, c.vocabulary, linear::bias::optional);
    }
    w->rope_factors = read_rope_factors(tensors);
    tensors.refuse_rest();
    refuse_excess(file, c);

    const bool keep = is_small(file);
    w->embedding.decode(file, keep && tied);  // else rows of the embedding are read, no more
    for (layer& each : w->layers) {
        each.for_each_matrix([&](linear* m) { m->decode(file, keep); });
    }
    for (linear& output : w->separate_output) output.decode(file, keep);
    weights_ = std::move(w);
    rope_.base = static_cast<float>(c.rope_base);
    rope_.adjacent = true;  // the convention of llama models in GGUF
    rope_.rotated = c.rope_dim;
    rope_.stretch = c.scaling.yarn ? 1 : static_cast<float>(c.scaling.factor);
    rope_.slower = weights_->rope_factors;
}

// A cell refers to parameters of its layer, which may be moved and never copied.
llama::layer llama::read_layer(tensor_reader& tensors, std::size_t i) const {
    const llama_config& c = config_;
    const std::string name = "blk." + std::to_string(i) + ".";
    const auto norm = [&](const char* which) {
        return read_values(tensors.file(), tensors.take(name + which, {c.width}));
    };
    const auto weights = [&](const char* which, std::size_t columns, std::size_t rows) {
        return linear(tensors, name + which, columns, rows, linear::bias::optional);
    };
    const auto replaced = c.replaced ? c.replaced->of_layer(i, c.heads) : std::vector<std::size_t>{};
    const std::size_t heads = c.heads - replaced.size();
    const std::size_t kv_heads = ms::kept_kv_heads(one_layer(c), replaced);
    const auto attending = [&] {
        return projections{weights("attn_q", c.width, heads * c.key_dim),
                           weights("attn_k", c.width, kv_heads * c.key_dim),
                           weights("attn_v", c.width, kv_heads * c.value_dim)};
    };
    static_assert(std::is_nothrow_move_constructible_v<layer>);
    layer made{.attention_norm = norm("attn_norm.weight"),
               .feed_forward_norm = norm("ffn_norm.weight"),
               .attending = heads > 0 ? std::optional(attending()) : std::nullopt,
               .output = weights("attn_output", c.heads * c.value_dim, c.width),
               .gate = weights("ffn_gate", c.width, c.feed_forward),
               .up = weights("ffn_up", c.width, c.feed_forward),
               .down = weights("ffn_down", c.feed_forward, c.width),
               .replaced = replaced,
               .cell_parameters = {},
               .cell = {}};
    if (!replaced.empty()) read_cell(tensors, i, made);
    return made;
}

void llama::read_cell(tensor_reader& tensors, std::size_t i, layer& into) const {
    const replaced_heads& r = *config_.replaced;
    const std::size_t inputs = config_.width, outputs = into.replaced.size() * config_.value_dim;
    std::vector<float>& all = into.cell_parameters;
    const auto take = [&](const char* which, std::size_t rows, std::size_t columns, bool turned = false) {
        const std::string name = "blk." + std::to_string(i) + ".replaced." + which;
        const std::vector<float> values = read_values(
            tensors.file(), columns == 0 ? tensors.take(name, {rows}) : tensors.take(name, {columns, rows}));
        const std::size_t width = std::max<std::size_t>(columns, 1);
        for (std::size_t n = 0; n < values.size(); ++n) {
            all.push_back(turned ? values[n % rows * width + n / rows] : values[n]);
        }
    };
    if (!r.selective) {
        take("gate.weight", outputs, inputs);
        take("candidate.weight", outputs, inputs);
        take("gate.bias", outputs, 0);
        take("candidate.bias", outputs, 0);
        into.cell = ms::min_gru({.inputs = inputs, .units = outputs, .candidate = ms::candidate::linear}, all);
        return;
    }
    const std::size_t units = r.expansion * outputs;
    take("input.weight", 2 * units, inputs);
    take("convolution.weight", units, r.convolution, true);
    take("convolution.bias", units, 0);
    take("selection.weight", r.delta_rank + 2 * r.state_size, units);
    take("delta.weight", units, r.delta_rank);
    take("delta.bias", units, 0);
    take("decay.weight", units, r.state_size, true);
    take("skip.weight", units, 0);
    take("output.weight", outputs, units);
    into.cell = ms::selective({.inputs = inputs,
                               .units = units,
                               .outputs = outputs,
                               .unit_states = r.state_size,
                               .convolution = r.convolution,
                               .delta_rank = r.delta_rank},
                              all);
}

ms::replacement llama::replacement(std::size_t i) const {
    return {.heads = weights_->layers[i].replaced, .cell = weights_->layers[i].cell};
}

std::vector<float> llama::read_rope_factors(tensor_reader& tensors) const {
    const std::size_t pairs = config_.rope_dim / 2;
    std::vector<float> factors;
    // Llama 3 stretches slow frequencies more than fast ones
    const tensor_view* const found = tensors.take_optional("rope_freqs.weight", {pairs});
    if (found != nullptr) factors = read_values(tensors.file(), *found);
    for (const float factor : factors) {
        if (!(factor > 0)) throw tensors.file().error("tensor 'rope_freqs.weight' must hold positive numbers");
    }
    if (!config_.scaling.yarn) return factors;
    // YaRN divides each pair by a factor of its own.
    const std::vector<double> scaled = rope_frequencies(config_, factors);
    llama_config plain = config_;
    plain.scaling = {};
    const std::vector<double> unscaled = rope_frequencies(plain, {});
    factors.resize(pairs);
    for (std::size_t i = 0; i < pairs; ++i) factors[i] = static_cast<float>(unscaled[i] / scaled[i]);
    return factors;
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

void llama::set_rotations(std::span<const ms::position> positions) {
    turns_.resize(index(positions.size()), index(config_.rope_dim));
    for (std::size_t t = 0; t < positions.size(); ++t) {
        rope_.find_turns(positions[t], {turns_.row(index(t)).data(), config_.rope_dim});
    }
    turns_ *= static_cast<float>(config_.scaling.magnitude);
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

void llama::rotate(matrix& heads_of_tokens, std::size_t heads) {
    pool_.run(static_cast<std::size_t>(heads_of_tokens.rows()), [&](std::size_t t) {
        const std::span<const float> turns(turns_.row(index(t)).data(), config_.rope_dim);
        for (std::size_t h = 0; h < heads; ++h) {
            rope_.turn(turns, {heads_of_tokens.row(index(t)).data() + h * config_.key_dim, config_.key_dim});
        }
    });
}

void llama::project(const layer& part, const matrix& hidden) {
    normalize(hidden, part.attention_norm, normal_);
    if (!part.attending) {
        for (matrix* const m : {&query_, &key_, &value_}) m->resize(hidden.rows(), 0);
        return;
    }
    const auto& [query, key, value] = *part.attending;
    multiply({&query, &key, &value}, normal_, {&query_, &key_, &value_});
    rotate(query_, query.rows() / config_.key_dim);
    rotate(key_, key.rows() / config_.key_dim);
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

void llama::logits(const matrix& hidden, std::size_t first, std::size_t count, matrix& out) {
    const auto& separate = weights_->separate_output;
    normalize(hidden.middleRows(index(first), index(count)), final_norm_, normal_);
    multiply({separate.empty() ? &weights_->embedding : &separate.front()}, normal_, {&out});
}

void llama::negative_log_likelihoods(const matrix& hidden, std::span<const token> targets, std::span<double> nll) {
    constexpr std::size_t slice = 64;  // a large vocabulary times a whole prompt would not fit in memory
    for (std::size_t begin = 0; begin < targets.size(); begin += slice) {
        const std::size_t count = std::min(slice, targets.size() - begin);
        logits(hidden, begin, count, logits_);
        pool_.run(count, [&](std::size_t i) {
            const auto row = logits_.row(index(i));
            nll[begin + i] = ms::negative_log_likelihood({row.data(), static_cast<std::size_t>(row.size())},
                                                         static_cast<std::size_t>(targets[begin + i]));
        });
    }
}

}  // namespace demo
