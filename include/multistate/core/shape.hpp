#pragma once

// The size of a cache, and the checks of all sizes.
//
//     // 32 layers, 32 query heads on 8 KV heads of 128 floats; 512 states survive in each layer
//     const ms::shape shape{.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512};
//     ms::cache<ms::tova> cache(shape);
//
// Constructors check sizes with the functions of this header. They throw std::invalid_argument that names the argument,
// the bound and the value given.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The size of one cache: keys and values of one sequence in all layers of a model.
struct shape {
    std::size_t layers;
    std::size_t heads;  ///< query heads, a multiple of kv_heads
    std::size_t kv_heads;
    std::size_t head_dim;       ///< floats in a key
    std::size_t value_dim = 0;  ///< floats in a value; 0 means head_dim
    std::size_t states = 0;     ///< as in table_shape; must be given
    std::size_t block = 1;
    std::size_t slack = 0;
    std::size_t sinks = 0;
    std::optional<std::size_t> recent = {};
    std::optional<float> scale = {};  ///< of the logits; default 1 / sqrt(head_dim)
    float softcap = 0;                ///< logits become softcap * tanh(logit / softcap); 0 means none

    std::size_t group() const noexcept { return heads / kv_heads; }
};

namespace detail {

/// a * b; throws std::invalid_argument if no memory can be that large.
inline std::size_t product(const char* who, std::size_t a, std::size_t b) {
    if (b != 0 && a > (std::numeric_limits<std::ptrdiff_t>::max)() / b) {
        refuse(who, "shape", "smaller than any memory can be", std::to_string(a) + " times " + std::to_string(b));
    }
    return a * b;
}

/// a + b, in the same way.
inline std::size_t sum(const char* who, std::size_t a, std::size_t b) {
    if (a > (std::numeric_limits<std::ptrdiff_t>::max)() - b) {
        refuse(who, "shape", "smaller than any memory can be", std::to_string(a) + " plus " + std::to_string(b));
    }
    return a + b;
}

/// Bytes of `count` elements of T.
template <class T>
std::size_t bytes(const char* who, std::size_t count) {
    return product(who, count, sizeof(T));
}

/// The memory of this machine in bytes; unlimited if the system does not tell.
inline std::size_t machine_memory() noexcept {
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
    static const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) return static_cast<std::size_t>(pages) * static_cast<std::size_t>(page);
#endif
    return (std::numeric_limits<std::size_t>::max)();
}

/// Refuses sizes larger than this machine's memory, before allocation. Systems that overcommit memory would otherwise
/// let the constructor fill it for minutes, and then kill the program.
inline void require_memory(const char* who, std::size_t wanted) {
    if (wanted <= machine_memory()) return;
    refuse(who, "memory", "at most the " + std::to_string(machine_memory()) + " bytes of this machine",
           std::to_string(wanted));
}

/// A size from 1 to 2^30 - 1: row numbers must fit in vector lanes, and so must the sum of two sizes.
inline void require_size(const char* who, const char* argument, std::size_t given) {
    constexpr std::size_t most = (std::numeric_limits<std::int32_t>::max)() / 2;
    require(given >= 1 && given <= most, who, argument, bound{"from 1 to ", most}, given);
}

/// Checks that a span has this many floats.
inline void expect_floats(const char* who, const char* argument, const char* words, std::size_t given,
                          std::size_t floats) noexcept {
    check(given == floats, who, argument, bound{words, floats}, given);
}
/// The number of tokens in a span of `given` floats with `each` floats per token; checked to be from 1 to `block`.
// NOLINTBEGIN(bugprone-easily-swappable-parameters): only these border checks call it
inline std::size_t tokens_of(const char* who, const char* argument, const char* words, std::size_t given,
                             std::size_t each, std::size_t block) noexcept {
    const std::size_t tokens = given / each;
    check(tokens >= 1 && tokens * each == given, who, argument, bound{words, each}, given);
    check(tokens <= block, who, "tokens", bound{"at most block = ", block}, tokens);
    return tokens;
}
// NOLINTEND(bugprone-easily-swappable-parameters)

inline void require_slack(const char* who, std::size_t given) {
    constexpr std::size_t most = (std::numeric_limits<std::int32_t>::max)() / 2 - 1;
    require(given <= most, who, "slack", bound{"at most ", most}, given);
}

/// The shape with its defaults filled in. Uses builtins, because every user compiles this header and <cmath> is slow.
inline shape checked(shape s) {
    constexpr const char* who = "cache";
    require(s.layers >= 1, who, "layers", "at least 1", s.layers);
    require(s.heads >= 1, who, "heads", "at least 1", s.heads);
    require(s.kv_heads >= 1, who, "kv_heads", "at least 1", s.kv_heads);
    require(s.heads % s.kv_heads == 0, who, "heads", bound{"a multiple of kv_heads = ", s.kv_heads}, s.heads);
    require_size(who, "head_dim", s.head_dim);
    if (s.value_dim == 0) s.value_dim = s.head_dim;
    require_size(who, "value_dim", s.value_dim);
    if (!s.scale) s.scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
    require(__builtin_isfinite(*s.scale), who, "scale", "finite", *s.scale);
    require(__builtin_isfinite(s.softcap) && s.softcap >= 0, who, "softcap", "finite and not negative", s.softcap);
    return s;
}

/// The shape of a cache in which layers or KV heads have these numbers of states; unchanged if there are none.
inline shape with_budget(shape s, std::span<const std::size_t> budget) {
    if (!budget.empty()) s.states = *std::ranges::max_element(budget);
    return checked(s);
}
/// The states of table i.
inline std::size_t states_of(const shape& s, std::size_t per_layer, std::size_t i,
                             std::span<const std::size_t> budget) {
    if (budget.empty()) return s.states;
    if (budget.size() == s.layers) return budget[i / per_layer];
    if (budget.size() == s.layers * per_layer) return budget[i];
    const std::string layers = "one number for each of " + std::to_string(s.layers) + " layers";
    refuse("cache", "budget",
           per_layer == 1 ? layers + ", because the policy forgets for all heads of a layer"
                          : layers + ", or for each of their " + std::to_string(s.kv_heads) + " KV heads",
           std::to_string(budget.size()));
}
inline table_shape table_shape_of(const shape& s, std::size_t per_layer, std::size_t i,
                                  std::span<const std::size_t> budget, const std::optional<guards>& guarded) {
    return {.states = states_of(s, per_layer, i, budget),
            .block = s.block,
            .slack = s.slack,
            .sinks = s.sinks,
            .recent = s.recent,
            .layer = i / per_layer,
            .kv_head = i % per_layer,
            .heads = s.heads / per_layer,
            .kv_heads = s.kv_heads / per_layer,
            .head_dim = s.head_dim,
            .value_dim = s.value_dim,
            .scale = *s.scale,
            .guarded = guarded};
}

}  // namespace detail

}}  // namespace multistate::MULTISTATE_TARGET
