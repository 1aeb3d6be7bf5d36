#pragma once

// What a policy remembers: named, typed members. The library stores them, zeroes them and moves them with states.
//
//     struct fading {                                          // a policy, see policy.hpp
//         struct memory {
//             ms::per_state<float> attention;                  // [states]: zero when a state is placed
//             ms::per_state_array<std::uint64_t> record;       // [words][states], the same
//             ms::per_table<std::uint64_t> tokens;             // [1]: zero at first and after clear()
//         };
//         void lay_out(memory& m, ms::layout& l) const noexcept {
//             l(m.attention);
//             l(m.record, (history + 63) / 64);
//             l(m.tokens);
//         }
//         void on_attention(ms::rows probabilities, ms::view states) const noexcept {
//             const auto mine = states.memory(*this);          // bound to the table: a few additions for each member
//             mine.attention[row] = …; mine.record[word][row] = …; ++mine.tokens[0];
//
// lay_out gives the size of each member. It must lay out every member, always in the same order. Sizes may depend on
// the policy's parameters and on the shape of the table (layout::shape).
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "multistate/core/errors.hpp"
#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

class layout;

namespace detail {

/// Every member begins at a multiple of this many bytes: a cache line.
inline constexpr std::size_t memory_alignment = 64;

constexpr std::size_t to_cache_lines(std::size_t bytes) noexcept {
    return (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
}

}  // namespace detail

/// Types that memory can hold: copied as bytes, first value all zero bytes, size 1, 2, 4, … or 64 bytes.
template <class T>
concept memory_element = std::is_trivially_copyable_v<T> && detail::memory_alignment % sizeof(T) == 0;

/// One element for each state that the hook sees: entry j belongs to row j. Zero when a state is placed.
template <memory_element T>
class per_state : public std::span<T> {
  public:
    per_state() = default;

  private:
    friend layout;
    per_state(T* data, std::size_t size) noexcept : std::span<T>(data, size) {}
};

/// Several elements for each state: [i] is a span over the states, like per_state.
template <memory_element T>
class per_state_array {
  public:
    per_state_array() = default;

    /// The number of elements of a state.
    std::size_t size() const noexcept { return size_; }
    std::span<T> operator[](std::size_t i) const noexcept { return {data_ + i * stride_, states_}; }
    /// [i] begins at data() + i * stride().
    T* data() const noexcept { return data_; }
    std::size_t stride() const noexcept { return stride_; }

  private:
    friend layout;
    per_state_array(T* data, std::size_t size, std::size_t stride, std::size_t states) noexcept
        : data_(data), size_(size), stride_(stride), states_(states) {}

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t stride_ = 0;
    std::size_t states_ = 0;
};

/// Elements of the table itself. Zero at first and after clear().
template <memory_element T>
class per_table : public std::span<T> {
  public:
    per_table() = default;

  private:
    friend layout;
    per_table(T* data, std::size_t size) noexcept : std::span<T>(data, size) {}
};

/// Vectors of the table itself, of equal length and contiguous: [i] is the i-th.
template <memory_element T>
class per_table_array {
  public:
    per_table_array() = default;

    /// The number of vectors.
    std::size_t size() const noexcept { return size_; }
    std::size_t length() const noexcept { return length_; }
    std::span<T> operator[](std::size_t i) const noexcept { return {data_ + i * length_, length_}; }
    T* data() const noexcept { return data_; }

  private:
    friend layout;
    per_table_array(T* data, std::size_t size, std::size_t length) noexcept
        : data_(data), size_(size), length_(length) {}

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t length_ = 0;
};

namespace detail {

/// Where the memory of a policy lies.
struct memory_origin {
    std::byte* states = nullptr;
    std::byte* table = nullptr;
    std::byte* states_end = nullptr;
    std::byte* table_end = nullptr;
    std::size_t rows = 0;  ///< of the table: room for states and tokens
    const table_shape* shape =
        nullptr;  ///< the shape for which the memory was laid out; null while it is being measured
};

/// One member, as bytes, for the table.
struct memory_member {
    std::size_t offset;   ///< from the origin
    std::size_t size;     ///< elements of each state, or of the table
    std::size_t element;  ///< bytes of one element
    bool of_states;
};

/// The memory that a policy needs.
struct memory_size {
    std::size_t states = 0;     ///< bytes of all rows, aligned
    std::size_t table = 0;      ///< bytes of the table itself, aligned
    std::size_t per_state = 0;  ///< bytes that a state needs
    std::size_t per_table = 0;  ///< bytes that the table itself needs
    std::size_t members = 0;
    bool representable = true;  ///< whether the sizes fit in memory at all
};

}  // namespace detail

/// Visits the members of a policy's memory, and measures or binds them.
class layout {
  public:
    /// Measures; also records the members if `members` is not null.
    layout(const table_shape& s, std::size_t rows, detail::memory_member* members = nullptr) noexcept
        : shape_(s), origin_{.rows = rows}, members_(members) {}
    /// Binds members to memory; `visible` states are seen.
    layout(const detail::memory_origin& origin, std::size_t visible) noexcept
        : shape_(*origin.shape), origin_(origin), visible_(visible) {}

    const table_shape& shape() const noexcept { return shape_; }
    const detail::memory_size& size() const noexcept { return size_; }

    template <class T>
    void operator()(per_state<T>& member) noexcept {
        member = {take_states<T>(1), visible_};
    }
    /// `size` elements for each state.
    template <class T>
    void operator()(per_state_array<T>& member, std::size_t size) noexcept {
        member = {take_states<T>(size), size, plane_bytes<T>() / sizeof(T), visible_};
    }
    template <class T>
    void operator()(per_table<T>& member, std::size_t size = 1) noexcept {
        member = {take_table<T>(size), size};
    }
    /// `size` vectors of `length` elements.
    template <class T>
    void operator()(per_table_array<T>& member, std::size_t size, std::size_t length) noexcept {
        if (measures()) return measure_array(size, length, sizeof(T));
        member = {take_table<T>(size * length), size, length};
    }
    /// The memory of another policy, or of a part, that this one calls. It follows what was laid out before.
    template <class P>
    void part(const P& p) noexcept;

  private:
    bool measures() const noexcept { return origin_.shape == nullptr; }

    static bool is_size(std::size_t a, std::size_t b) noexcept {
        return b == 0 || a <= (std::numeric_limits<std::ptrdiff_t>::max)() / b;
    }
    /// Bytes of one element for all states.
    template <class T>
    std::size_t plane_bytes() const noexcept {
        return detail::to_cache_lines(origin_.rows * sizeof(T));
    }
    template <class T>
    T* take_states(std::size_t size) noexcept {
        return static_cast<T*>(
            take(origin_.states, origin_.states_end, size_.states, size, sizeof(T), plane_bytes<T>(), true));
    }
    template <class T>
    T* take_table(std::size_t size) noexcept {
        return static_cast<T*>(take(origin_.table, origin_.table_end, size_.table, size, sizeof(T), sizeof(T), false));
    }
    /// The next `size` times `stride` bytes after `origin`.
    void* take(std::byte* origin, [[maybe_unused]] const std::byte* end, std::size_t& used, std::size_t size,
               std::size_t element, std::size_t stride, bool of_states) noexcept {
        if (measures()) {
            measure(used, size, element, stride, of_states);
            return nullptr;
        }
        const std::size_t offset = used;
        used += detail::to_cache_lines(size * stride);
        detail::check<2>(used <= static_cast<std::size_t>(end - origin), "lay_out", "memory",
                         "what it was when the table was made", used);
        return origin + offset;
    }

    // Not inlined: only constructors measure, and every policy's lay_out would contain this code several times.
    MULTISTATE_NOINLINE void measure_array(std::size_t size, std::size_t length, std::size_t element) noexcept {
        if (is_size(size, length)) return measure(size_.table, size * length, element, element, false);
        size_.representable = false;
    }
    MULTISTATE_NOINLINE void measure(std::size_t& used, std::size_t size, std::size_t element, std::size_t stride,
                                     bool of_states) noexcept {
        constexpr auto most = static_cast<std::size_t>((std::numeric_limits<std::ptrdiff_t>::max)());
        if (!is_size(size, stride) || size * stride > most - detail::memory_alignment ||
            used > most - detail::to_cache_lines(size * stride)) {
            size_.representable = false;
            return;
        }
        const std::size_t offset = used;
        used += detail::to_cache_lines(size * stride);
        (of_states ? size_.per_state : size_.per_table) += size * element;
        if (members_ != nullptr) members_[size_.members] = {offset, size, element, of_states};
        ++size_.members;
    }

    const table_shape& shape_;
    detail::memory_origin origin_;
    std::size_t visible_ = 0;
    detail::memory_member* members_ = nullptr;
    detail::memory_size size_;
};

/// Whether P remembers something: it has a struct `memory` of per_state, per_table, … and lay_out gives their sizes.
template <class P>
concept has_memory = requires(const P& p, typename P::memory& m, layout& l) {
    { p.lay_out(m, l) }
    noexcept;
};

template <class P>
void layout::part(const P& p) noexcept {
    if constexpr (has_memory<P>) {
        typename P::memory bound;
        p.lay_out(bound, *this);
    }
}

namespace detail {

/// What a policy asks for in a table of this many rows.
template <class P>
memory_size size_of_memory(const P& policy, const table_shape& s, std::size_t rows) noexcept {
    layout l(s, rows);
    l.part(policy);
    return l.size();
}

}  // namespace detail

}}  // namespace multistate::MULTISTATE_TARGET
