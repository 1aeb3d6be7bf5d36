#pragma once

// One of several plain structs, chosen at run time. std::variant would compile about twenty functions for each type;
// with forty policies that is a second of compiler time.
//
//     plain_variant<tova, h2o> chosen;                            // tova
//     chosen.set<1>(h2o{});
//     chosen.visit([](auto& policy) { … });
//     chosen.visit<indices_where<false, true>>([](h2o& policy) { … });   // does nothing for tova
#include <algorithm>
#include <array>
#include <cstddef>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

template <class Numbers, std::size_t... N>
std::index_sequence<Numbers::found[N]...> as_sequence(std::index_sequence<N...>);

template <bool... Wanted>
struct wanted_indices {
    static constexpr std::size_t count = (std::size_t{0} + ... + std::size_t{Wanted});
    static constexpr std::array<std::size_t, count> found = [] {
        std::array<std::size_t, count> result{};
        std::size_t i = 0, n = 0;
        ((Wanted ? void(result[n++] = i++) : void(++i)), ...);
        return result;
    }();
};
/// The sequence of the indices whose argument is true.
template <bool... Wanted>
using indices_where =
    decltype(as_sequence<wanted_indices<Wanted...>>(std::make_index_sequence<wanted_indices<Wanted...>::count>()));

/// A type may occur several times; the index tells them apart.
template <class... Ts>
class plain_variant {
    static_assert((std::is_trivially_copyable_v<Ts> && ...),
                  "a policy or part that is chosen at run time is trivially copyable: data lie outside, behind a span");

  public:
    template <std::size_t I>
    using type = std::tuple_element_t<I, std::tuple<Ts...>>;

    plain_variant() noexcept { set<0>({}); }

    std::size_t index() const noexcept { return index_; }
    template <std::size_t I>
    void set(const type<I>& value) noexcept {
        ::new (static_cast<void*>(bytes_)) type<I>(value);
        index_ = I;
    }

    /// Calls f(value) if its index is in the sequence. For other types, nothing is compiled.
    template <class Indices = std::index_sequence_for<Ts...>, class F>
    void visit(F&& f) {
        visit(*this, f, Indices());
    }
    template <class Indices = std::index_sequence_for<Ts...>, class F>
    void visit(F&& f) const {
        visit(*this, f, Indices());
    }

  private:
    template <std::size_t I>
    type<I>& get() noexcept {
        return *std::launder(reinterpret_cast<type<I>*>(bytes_));
    }
    template <std::size_t I>
    const type<I>& get() const noexcept {
        return *std::launder(reinterpret_cast<const type<I>*>(bytes_));
    }
    template <class Self, class F, std::size_t... I>
    static void visit(Self& self, F& f, std::index_sequence<I...>) {
        static_cast<void>(((self.index_ == I && (f(self.template get<I>()), true)) || ...));
    }

    alignas(Ts...) std::byte bytes_[(std::max)({sizeof(Ts)...})];
    std::size_t index_;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
