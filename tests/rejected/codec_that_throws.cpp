// A codec whose store may throw.
// prints: has_noexcept_store
#include <multistate/cache/cache.hpp>
#include <multistate/policies/tova.hpp>

namespace ms = multistate;

struct throwing {
    static constexpr std::string_view name = "throwing";
    static constexpr bool scaled = false;
    using element = float;
    static constexpr std::size_t stride(std::size_t n) noexcept { return ms::simd::padded(n); }
    static float store(const float*, std::size_t, element*) { return 1; }
};

ms::cache<ms::tova, throwing> cache({.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 16, .states = 8});
