#pragma once

// Numbers that users may set, with bounds. Every constructor checks them, and programs can set them by name.
//
//     struct decayed {
//         float decay = 0.95f;
//         static constexpr auto parameters = std::tuple{ms::parameter{"decay", &decayed::decay, 0.0f, 1.0f}};
//     };
//     ms::for_each_parameter(policy, [](std::string_view name, auto& value, auto least, auto most) { … });
#include <string_view>
#include <tuple>
#include <type_traits>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A number of a policy, from `least` to `most`.
template <class P, class T>
struct parameter {
    std::string_view name;
    T P::*member;
    T least;
    T most;
};

template <class P, class T>
parameter(std::string_view, T P::*, T, T) -> parameter<P, T>;  // Clang 14 does not deduce it

/// In a list of parameters: all parameters of a member, under their own names.
template <class P, class M>
struct member_parameters {
    M P::*member;
};
template <class P, class M>
member_parameters(M P::*) -> member_parameters<P, M>;

template <class P>
concept has_parameters = requires {
    std::tuple_size<std::remove_cvref_t<decltype(P::parameters)>>::value;
};

/// Calls f(name, value, least, most) for each number of the policy that users may set; value is a reference.
template <class P, class F>
constexpr void for_each_parameter(P& p, F&& f) {
    using plain = std::remove_const_t<P>;
    if constexpr (requires { p.for_each_parameter(f); }) {
        p.for_each_parameter(f);
    } else if constexpr (has_parameters<plain>) {
        const auto visit = [&](const auto& one) {
            if constexpr (requires { one.name; }) {
                f(one.name, p.*one.member, one.least, one.most);
            } else {
                multistate::for_each_parameter(p.*one.member, f);
            }
        };
        std::apply([&](const auto&... one) { (visit(one), ...); }, plain::parameters);
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
