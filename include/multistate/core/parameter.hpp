#pragma once

// Numbers that users may set, with bounds. Every constructor checks them, and programs can set them by name.
//
//     struct decayed {
//         float decay = 0.95f;
//         std::size_t delay = 1;
//         bool scaled = true;
//         static constexpr ms::parameter<decayed> parameters[] = {
//             {"decay", &decayed::decay, 0.0f, 1.0f}, {"delay", &decayed::delay, 1, 1024}, {"scaled", &decayed::scaled}};
//     };
//     ms::for_each_parameter(policy, [](std::string_view name, auto& value, auto least, auto most) { … });
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A member of P, from `least` to `most`: a float, a std::size_t, or a bool.
template <class P>
class parameter {
    template <class T>
    struct bounded {
        T P::*member = nullptr;
        T least{}, most{};
    };

  public:
    constexpr parameter(std::string_view its, float P::*member, float least, float most) noexcept
        : name(its), real_{member, least, most} {}
    constexpr parameter(std::string_view its, std::size_t P::*member, std::size_t least, std::size_t most) noexcept
        : name(its), whole_{member, least, most} {}
    constexpr parameter(std::string_view its, bool P::*member) noexcept : name(its), flag_{member, false, true} {}

    std::string_view name;

    /// Calls f(name, value, least, most); `value` is a reference to the member of p.
    template <class Self, class F>
    constexpr void visit(Self& p, F& f) const {
        if (real_.member != nullptr) f(name, p.*real_.member, real_.least, real_.most);
        if (whole_.member != nullptr) f(name, p.*whole_.member, whole_.least, whole_.most);
        if (flag_.member != nullptr) f(name, p.*flag_.member, flag_.least, flag_.most);
    }

  private:
    bounded<float> real_;
    bounded<std::size_t> whole_;
    bounded<bool> flag_;
};

template <class P>
concept has_parameters = requires {
    P::parameters[0].name;
};

/// A policy can have a member with parameters of its own: `static constexpr auto member_with_parameters = &P::rope;`
template <class P>
concept has_member_with_parameters = requires(P& p) {
    p.*P::member_with_parameters;
};

/// Calls f(name, value, least, most) for each number of the policy that users may set; value is a reference. The member
/// with parameters comes first.
template <class P, class F>
constexpr void for_each_parameter(P& p, F&& f) {
    using plain = std::remove_const_t<P>;
    if constexpr (requires { p.for_each_parameter(f); }) {
        p.for_each_parameter(f);
    } else {
        if constexpr (has_member_with_parameters<plain>) {
            multistate::for_each_parameter(p.*plain::member_with_parameters, f);
        }
        if constexpr (has_parameters<plain>) {
            for (const auto& one : plain::parameters) one.visit(p, f);
        }
    }
}

}}  // namespace multistate::MULTISTATE_TARGET
