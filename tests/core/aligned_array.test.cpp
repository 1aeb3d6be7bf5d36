// Memory: aligned, zeroed, copied by value.
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>

#include <gtest/gtest.h>
#include <multistate/core/aligned_array.hpp>

namespace aligned_array_test {

namespace ms = multistate;

TEST(aligned_array, is_aligned_and_zero) {
    for (const std::size_t n : {1u, 3u, 16u, 1000u}) {
        ms::aligned_array<float> array(n);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.data()) % 64, 0u);
        EXPECT_EQ(array.bytes(), n * sizeof(float));
        for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(array.data()[i], 0.0f);
    }
    EXPECT_EQ(ms::aligned_array<float>().data(), nullptr);
    EXPECT_EQ(ms::aligned_array<float>(0).bytes(), 0u);
}

TEST(aligned_array, begins_with_a_huge_page_from_2_mib_on) {
    constexpr std::size_t huge = std::size_t{2} << 20;
    for (const std::size_t n : {huge, huge + 1, 3 * huge}) {
        const ms::aligned_array<char> array(n), copy(array), any(n, ms::uncleared);
        for (const char* memory : {array.data(), copy.data(), any.data()}) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % huge, 0u);
        }
        EXPECT_EQ(any.bytes(), n);
        EXPECT_EQ(array.data()[n - 1], 0);
    }
}

TEST(aligned_array, copies_and_moves_its_elements) {
    ms::aligned_array<int> array(5);
    array.data()[4] = 7;
    ms::aligned_array<int> copy = array;
    array.data()[4] = 8;
    EXPECT_EQ(copy.data()[4], 7);
    const int* memory = array.data();
    ms::aligned_array<int> moved = std::move(array);
    EXPECT_EQ(moved.data(), memory);
    copy = moved;
    EXPECT_EQ(copy.data()[4], 8);
    EXPECT_NE(copy.data(), memory);
    copy = std::move(moved);
    EXPECT_EQ(copy.data(), memory);
    copy = ms::aligned_array<int>();
    EXPECT_EQ(copy.bytes(), 0u);
}

TEST(aligned_array, refuses_a_size_that_memory_cannot_have) {
    EXPECT_THROW(ms::aligned_array<double>(std::numeric_limits<std::size_t>::max() / 4), std::invalid_argument);
}

}  // namespace aligned_array_test
