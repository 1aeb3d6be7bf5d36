// The target's name and the version.
#include <string>

#include <gtest/gtest.h>
#include <multistate/core/target.hpp>
#include <multistate/simd/highway.hpp>
#include <multistate/version.hpp>

namespace target_test {

namespace ms = multistate;

TEST(target, names_what_this_file_was_compiled_for) {
    const std::string_view name = ms::target_name();
    // The first part is the target that Highway derives from the same flags.
    const std::string highway = std::string(MULTISTATE_QUOTE(HWY_NAMESPACE)).substr(2);
    EXPECT_EQ(name.substr(0, highway.size()), highway);
    EXPECT_TRUE(name.size() == highway.size() || name[highway.size()] == '_');
#if defined(__AVX512F__)
    EXPECT_NE(name.find("_avx512"), std::string_view::npos);
#else
    EXPECT_EQ(name.find("_avx512"), std::string_view::npos);
#endif
}

#ifdef MULTISTATE_EXPECTED_TARGET  // by a preset that names a target
TEST(target, is_the_one_that_the_build_asked_for) { EXPECT_EQ(ms::target_name(), MULTISTATE_EXPECTED_TARGET); }
#endif

/// Everything is found both with and without the name of the inline namespace.
TEST(target, is_the_inline_namespace) {
    EXPECT_EQ(ms::target_name().data(), ms::MULTISTATE_TARGET::target_name().data());
}

TEST(version, is_one_number_in_two_forms) {
    EXPECT_EQ(std::string(MULTISTATE_VERSION), std::to_string(MULTISTATE_VERSION_MAJOR) + "." +
                                                   std::to_string(MULTISTATE_VERSION_MINOR) + "." +
                                                   std::to_string(MULTISTATE_VERSION_PATCH));
}

}  // namespace target_test
