// One decoding step of a layer whose cache is full, cold: enough layers in rotation that keys and values are in DRAM.
//
//     step/<policy>/<codec>/<heads>x<KV heads>/<states>         beside attention alone: what the decision costs
//     step_and_rivals/<codec>/<heads>x<KV heads>/<states>       tova beside a read of as many bytes, and beside Eigen
#include <array>
#include <string>
#include <string_view>

#include <multistate/multistate.hpp>
#include <multistate/reference_attention.hpp>

#include "eigen_attention.hpp"
#include "interleaved.hpp"
#include "memory.hpp"

namespace {

namespace ms = multistate;

constexpr std::size_t head_dim = 128;

struct heads_of_a_model {
    std::size_t heads;
    std::size_t kv_heads;
};
constexpr std::array<heads_of_a_model, 2> all_heads{{{32, 32}, {32, 8}}};
constexpr std::array<std::size_t, 2> all_states{512, 4096};

template <class Codec>
std::string name_of(std::string_view family, heads_of_a_model h, std::size_t states) {
    return std::string(family) + "/" + std::string(Codec::name) + "/" + std::to_string(h.heads) + "x" +
           std::to_string(h.kv_heads) + "/" + std::to_string(states);
}

/// Bytes of keys and values that attention to n states of a layer must read.
template <class Codec>
std::size_t bytes_of(std::size_t kv_heads, std::size_t n) {
    return 2 * kv_heads * n * (head_dim * sizeof(typename Codec::element) + (Codec::scaled ? sizeof(float) : 0));
}

/// A rotation of layers with full caches. Each call of step or attend takes the next layer; the two run half a rotation
/// apart, so that neither warms the other's layer.
template <class Codec>
class decoder {
  public:
    decoder(const ms::any_policy& policy, heads_of_a_model h, std::size_t states)
        : never_forgets_(policy.forgets() == ms::per::never),
          layers_(std::max<std::size_t>(2, bench::cold_bytes / bytes_of<Codec>(h.kv_heads, states) + 1)),
          cache_({.layers = layers_,
                  .heads = h.heads,
                  .kv_heads = h.kv_heads,
                  .head_dim = head_dim,
                  .states = states,
                  .block = never_forgets_ ? 32u : 1u},  // room to go on for a while without forgetting
                 policy),
          q_(bench::random_floats(h.heads * head_dim, 1)),
          k_(bench::random_floats(tokens * h.kv_heads * head_dim, 2)),
          v_(bench::random_floats(tokens * h.kv_heads * head_dim, 3)),
          out_(h.heads * head_dim) {
        fill();
    }

    const ms::shape& shape() const { return cache_.shape(); }
    std::span<const float> query() const { return q_; }
    std::size_t size() const { return cache_.size(0); }

    /// Untimed, before each turn: a policy that never forgets starts again when its rows are used up.
    void prepare() {
        const ms::shape& s = cache_.shape();
        if (!never_forgets_ || cache_.size(step_layer_) < s.states + s.block) return;
        cache_.clear();
        fill();
    }

    void step() noexcept {
        const ms::position p = cache_.next_position(step_layer_);
        ms::step(cache_, step_layer_, p, q_, token(k_, p), token(v_, p), out_);
        step_layer_ = (step_layer_ + 1) % layers_;
    }

    void attend() noexcept {
        ms::attend(cache_, attend_layer_, q_, out_);
        attend_layer_ = (attend_layer_ + 1) % layers_;
    }

  private:
    static constexpr std::size_t tokens = 61;  // different keys and values; the text repeats them

    std::span<const float> token(const std::vector<float>& all, ms::position p) const noexcept {
        const std::size_t width = cache_.shape().kv_heads * head_dim;
        return std::span(all).subspan(static_cast<std::size_t>(p) % tokens * width, width);
    }

    /// Brings every layer to states + 1 rows. Attention would take minutes: policies are shown equal probabilities.
    void fill() {
        const ms::shape& s = cache_.shape();
        const std::vector<float> equal(s.states + 1, 1 / static_cast<float>(s.states + 1));
        for (std::size_t layer = 0; layer < layers_; ++layer) {
            for (ms::position p = 0; cache_.size(layer) <= s.states; ++p) {
                cache_.append(layer, p, token(k_, p), token(v_, p));
                cache_.observe(layer, ms::rows{equal.data(), s.heads, cache_.size(layer), 0});
            }
        }
    }

    bool never_forgets_;
    std::size_t layers_;
    ms::cache<ms::any_policy, Codec> cache_;
    std::vector<float> q_, k_, v_, out_;
    std::size_t step_layer_ = 0;
    std::size_t attend_layer_ = layers_ / 2;
};

template <class Codec>
void report(benchmark::State& state, const decoder<Codec>& ours, const bench::turns& steps) {
    const double median = bench::median(steps);
    const auto bytes = static_cast<double>(bytes_of<Codec>(ours.shape().kv_heads, ours.size()));
    state.counters["ns"] = 1e9 * median;
    state.counters["bytes/s"] = bytes / median;
}

/// The turns alternate: step, attend, step, attend … so that each finds the caches as the other left them.
template <class Codec>
void step(benchmark::State& state, const std::string& name, const ms::any_policy& policy, heads_of_a_model h,
          std::size_t states) {
    auto& ours = bench::prepared(name, [&] { return decoder<Codec>(policy, h, states); });
    bench::turns steps, attentions;
    for (auto _ : state) {
        ours.prepare();
        steps.push_back(bench::seconds([&] { ours.step(); }));
        attentions.push_back(bench::seconds([&] { ours.attend(); }));
        state.SetIterationTime(steps.back());
    }
    report(state, ours, steps);
    state.counters["step/attention"] = bench::median_ratio(steps, attentions);
}

/// The rivals' keys and values, in DRAM too: as stored for Eigen, and as floats for the reference.
template <class Codec>
class rivals {
  public:
    using element = typename bench::eigen_element<Codec>::type;

    rivals(const ms::shape& s, std::size_t n)
        : shape_(s),
          n_(n),
          stored_(pattern(), 2 * s.kv_heads * n * head_dim),
          floats_(bench::random_floats(pattern_size, 4), 2 * s.kv_heads * n * head_dim),
          words_(std::vector<std::uint64_t>(4096, 1), bytes_of<Codec>(s.kv_heads, n) / sizeof(std::uint64_t)),
          scales_(Codec::scaled ? n : 0, unit),
          out_(s.heads * head_dim),
          probabilities_(s.heads * n) {}

    void read() {
        benchmark::DoNotOptimize(
            bench::read_all(words_.next(bytes_of<Codec>(shape_.kv_heads, n_) / sizeof(std::uint64_t))));
    }
    void eigen(std::span<const float> q) {
        const auto rows = stored_.next(2 * shape_.kv_heads * n_ * head_dim);
        bench::eigen_attention<element>(shape_, n_, q, rows.data(), rows.data() + rows.size() / 2, scales_, scales_,
                                        out_);
    }
    void reference(std::span<const float> q) {
        const auto rows = floats_.next(2 * shape_.kv_heads * n_ * head_dim);
        ms::reference_attention(shape_, n_, q, rows.first(rows.size() / 2), rows.last(rows.size() / 2), out_,
                                probabilities_);
    }

    /// Whether the two compute the same: a rival that is wrong would be fast for nothing. On few states, as floats.
    bool agree(std::span<const float> q) const {
        const std::size_t few = std::min<std::size_t>(n_, 8);  // not constexpr, or GCC 12 warns inside Eigen
        const std::size_t half = shape_.kv_heads * few * head_dim;
        const std::vector<element> stored = pattern();
        const std::vector<float> scales(Codec::scaled ? few : 0, unit);
        std::vector<float> floats(2 * half), a(out_.size()), b(out_.size()), probabilities(shape_.heads * few);
        for (std::size_t i = 0; i < 2 * half; ++i) floats[i] = static_cast<float>(stored[i]) * unit;
        bench::eigen_attention<element>(shape_, few, q, stored.data(), stored.data() + half, scales, scales, a);
        ms::reference_attention(shape_, few, q, std::span(floats).first(half), std::span(floats).last(half), b,
                                probabilities);
        return std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) { return std::abs(x - y) < 1e-4f; });
    }

  private:
    static constexpr float unit = Codec::scaled ? 1.0f / 127 : 1.0f;  // what a stored 1 means

    static std::vector<element> pattern() {
        const std::vector<float> floats = bench::random_floats(pattern_size, 4);
        std::vector<element> result(floats.size());
        std::transform(floats.begin(), floats.end(), result.begin(),
                       [](float x) { return static_cast<element>(x / unit); });
        return result;
    }
    static constexpr std::size_t pattern_size = 1 << 16;

    ms::shape shape_;
    std::size_t n_;
    bench::cold_memory<element> stored_;
    bench::cold_memory<float> floats_;
    bench::cold_memory<std::uint64_t> words_;
    std::vector<float> scales_, out_, probabilities_;
};

template <class Codec>
struct contest {
    decoder<Codec> ours;
    rivals<Codec> theirs;

    contest(heads_of_a_model h, std::size_t states)
        : ours(ms::any_policy(ms::tova{}), h, states), theirs(ours.shape(), states + 1) {}
};

template <class Codec>
void step_and_rivals(benchmark::State& state, const std::string& name, heads_of_a_model h, std::size_t states) {
    auto& all = bench::prepared(name, [&] { return contest<Codec>(h, states); });
    decoder<Codec>& ours = all.ours;
    rivals<Codec>& theirs = all.theirs;
    if (!theirs.agree(ours.query())) return state.SkipWithError("Eigen's attention and the reference disagree");
    bench::turns steps, reads, eigens, references;
    for (auto _ : state) {
        reads.push_back(bench::seconds([&] { theirs.read(); }));
        steps.push_back(bench::seconds([&] { ours.step(); }));
        eigens.push_back(bench::seconds([&] { theirs.eigen(ours.query()); }));
        references.push_back(bench::seconds([&] { theirs.reference(ours.query()); }));
        state.SetIterationTime(steps.back());
    }
    report(state, ours, steps);
    state.counters["percent_of_read"] = 100 * bench::median_ratio(reads, steps);
    state.counters["eigen/step"] = bench::median_ratio(eigens, steps);
    state.counters["reference/step"] = bench::median_ratio(references, steps);
}

template <class Codec>
void add(heads_of_a_model h, std::size_t states) {
    const std::string contest_name = name_of<Codec>("step_and_rivals", h, states);
    benchmark::RegisterBenchmark(contest_name.c_str(), step_and_rivals<Codec>, contest_name, h, states)
        ->UseManualTime();
    for (const std::string_view policy : ms::any_policy::names) {
        const std::string name = name_of<Codec>("step/" + std::string(policy), h, states);
        benchmark::RegisterBenchmark(name.c_str(), step<Codec>, name, ms::any_policy::named(policy), h, states)
            ->UseManualTime();
    }
}

[[maybe_unused]] const bool added = [] {
    for (const heads_of_a_model h : all_heads) {
        for (const std::size_t states : all_states) {
            add<ms::f32>(h, states);
            add<ms::f16>(h, states);
            add<ms::bf16>(h, states);
            add<ms::int8>(h, states);
        }
    }
    return true;
}();

}  // namespace
