// A codec that stores rows and cannot read them.
// prints: has_noexcept_decode_or_load
#include <multistate/cache/cache.hpp>
#include <multistate/policies/tova.hpp>

namespace ms = multistate;

struct write_only {
    static constexpr std::string_view name = "write_only";
    static constexpr bool scaled = false;
    using element = float;
    static constexpr std::size_t stride(std::size_t n) noexcept { return ms::simd::padded(n); }
    static float store(const float*, std::size_t, element*) noexcept { return 1; }
};

ms::cache<ms::tova, write_only> cache({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 16, .states = 8});
