#pragma once

// What attention/step.hpp, prefill.hpp and budgets/adaptive.hpp need of a cache beyond its public interface: they take its
// tables, and decisions, one at a time. No one else includes it.
#include "multistate/cache/cache.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

struct cache_access {
    template <class C>
    static bool has_room(const C& cache, std::size_t layer, std::size_t tokens) noexcept {
        return cache.has_room(layer, tokens);
    }
    template <class C>
    static void append_next(C& cache, std::size_t layer, std::size_t unit, position first, std::size_t tokens,
                            std::span<const float> k, std::span<const float> v) noexcept {
        const arrival a{first, tokens, k, v};
        const auto write = cache.writer(layer, a);
        cache.append_next(layer, unit, a, cache.stored_, write);
    }
    template <class C>
    static std::size_t largest(const C& cache, std::size_t layer) noexcept {
        return cache.largest(layer);
    }
    template <class C>
    static auto tables(C& cache, std::size_t layer) noexcept {
        return cache.of_layer(layer);
    }
    /// For reading only: so a constant cache will do.
    template <class C>
    static editor stored(const C& cache, std::size_t layer, std::size_t unit) noexcept {
        return const_cast<C&>(cache).stored_.lend(tables(cache, layer)[unit].shape());
    }
    template <class C>
    static void forget_next(C& cache, std::size_t layer, std::size_t unit) noexcept {
        const auto move = cache.mover(layer);
        cache.forget_next(layer, unit, cache.stored_, move);
    }
    template <class C>
    static void relocate(C& cache, std::size_t layer, std::size_t unit, std::span<const move> moves) noexcept {
        cache.for_heads(unit, [&](std::size_t kv_head) { cache.relocate(layer, kv_head, moves); });
    }
    template <class C>
    static void write(C& cache, std::size_t layer, std::size_t unit, std::size_t row, std::size_t token,
                      std::span<const float> k, std::span<const float> v) noexcept {
        cache.for_heads(unit, [&](std::size_t kv_head) { cache.write(layer, kv_head, row, token, k, v); });
    }
    template <class C>
    static rows query_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> q) noexcept {
        return cache.query_rows(unit, token, q);
    }
    template <class C>
    static rows key_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> k) noexcept {
        return cache.key_rows(unit, token, k);
    }
    template <class C>
    static rows value_rows(const C& cache, std::size_t unit, std::size_t token, std::span<const float> v) noexcept {
        return cache.value_rows(unit, token, v);
    }
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
