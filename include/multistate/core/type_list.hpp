#pragma once

// Types as one value: the library's lists of codecs, modifiers and mergers.
//
//     ms::codecs::for_each([]<class Codec>() { std::cout << Codec::name << '\n'; });
//     std::ranges::find(ms::codecs::names, "int8");
//     using suite = ms::codecs::apply<testing::Types>;             // testing::Types<f32, f16, …>
#include <array>
#include <string_view>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

template <class... T>
struct type_list {
    template <template <class...> class Template>
    using apply = Template<T...>;

    /// The name of each type, in order.
    static constexpr std::array<std::string_view, sizeof...(T)> names{T::name...};

    /// Calls f.operator()<T>() for each type, in order.
    template <class F>
    static constexpr void for_each(F&& f) {
        (f.template operator()<T>(), ...);
    }
};

/// The types of both lists.
template <class... A, class... B>
constexpr type_list<A..., B...> operator+(type_list<A...>, type_list<B...>) noexcept {
    return {};
}

}}  // namespace multistate::MULTISTATE_TARGET
