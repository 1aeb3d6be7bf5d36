#include "unicode.hpp"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace unicode_test {

TEST(unicode, decodes_well_formed_characters) {
    const std::vector<std::pair<std::string, char32_t>> cases = {
        {std::string(1, '\0'), 0},
        {"A", 'A'},
        {"\x7F", 0x7F},
        {"\xC2\x80", 0x80},
        {"\xC3\xA9", 0xE9},
        {"\xDF\xBF", 0x7FF},
        {"\xE0\xA0\x80", 0x800},
        {"\xE2\x96\x81", 0x2581},
        {"\xED\x9F\xBF", 0xD7FF},
        {"\xEE\x80\x80", 0xE000},
        {"\xEF\xBF\xBF", 0xFFFF},
        {"\xF0\x90\x80\x80", 0x10000},
        {"\xF0\x9F\x98\x80", 0x1F600},
        {"\xF4\x8F\xBF\xBF", 0x10FFFF},
    };
    for (const auto& [text, code_point] : cases) {
        const demo::character found = demo::decode(text + "x");
        EXPECT_EQ(found.code_point, code_point);
        EXPECT_EQ(found.length, text.size()) << "U+" << std::hex << static_cast<unsigned>(code_point);
    }
}

TEST(unicode, an_ill_formed_byte_is_a_character_of_its_own) {
    const std::vector<std::string> cases = {
        "\x80",              // continuation without a lead
        "\xC0\x80",          // overlong
        "\xC1\xBF",          // overlong
        "\xE0\x9F\xBF",      // overlong
        "\xF0\x8F\xBF\xBF",  // overlong
        "\xED\xA0\x80",      // surrogate
        "\xED\xBF\xBF",      // surrogate
        "\xF4\x90\x80\x80",  // past the last plane
        "\xF5\x80\x80\x80",  // no such lead
        "\xFF",              // no such lead
        "\xC3",              // cut short
        "\xE2\x96",          // cut short
        "\xF0\x9F\x98",      // cut short
        "\xE2\x96x",         // cut short by another character
    };
    for (const std::string& text : cases) {
        const demo::character found = demo::decode(text);
        EXPECT_EQ(found.code_point, char32_t{0xFFFD}) << testing::PrintToString(text);
        EXPECT_EQ(found.length, 1u) << testing::PrintToString(text);
    }
    EXPECT_FALSE(demo::is_letter(0xFFFD) || demo::is_number(0xFFFD) || demo::is_space(0xFFFD));
}

TEST(unicode, only_an_empty_text_has_no_character) {
    EXPECT_EQ(demo::decode("").length, 0u);
    EXPECT_EQ(demo::decode(std::string_view("\0", 1)).length, 1u);
}

TEST(unicode, walks_any_bytes_to_their_end) {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        std::string text(random() % 12, ' ');
        for (char& value : text) value = static_cast<char>(random() % 256);
        std::size_t walked = 0;
        for (std::string_view rest = text; !rest.empty();) {
            const demo::character next = demo::decode(rest);
            ASSERT_GE(next.length, 1u);
            ASSERT_LE(next.length, rest.size());
            walked += next.length;
            rest.remove_prefix(next.length);
        }
        ASSERT_EQ(walked, text.size());
    }
}

TEST(unicode, knows_letters_numbers_and_spaces) {
    for (const char32_t letter : U"azAZ\u00AA\u00E9\u01C5\u02B0\u0416\u0627\u4E2D\u65E5\uD7A3\U00010400\U00020000") {
        EXPECT_EQ(demo::is_letter(letter), letter != 0) << std::hex << static_cast<unsigned>(letter);
    }
    for (const char32_t number : U"09\u00B2\u00BD\u0663\u2167\u2460\u3007\U0001D7D8") {
        EXPECT_EQ(demo::is_number(number), number != 0) << std::hex << static_cast<unsigned>(number);
    }
    for (const char32_t sign : U"!'_\\}\u00A1\u2014\u3002\uFF5D\U0001E95F") {
        EXPECT_EQ(demo::is_punctuation(sign), sign != 0) << std::hex << static_cast<unsigned>(sign);
    }
    for (const char32_t symbol : U"$+<`\u00A9\u20AC") EXPECT_FALSE(demo::is_punctuation(symbol));
    // A combining accent, a zero-width space, a byte order mark, an emoji, an unassigned and an impossible code point.
    for (const char32_t other : U"'_$+\u0301\u200B\uFEFF\U0001F600\u0378") {
        EXPECT_FALSE(demo::is_letter(other) || demo::is_number(other) || demo::is_space(other));
    }
    EXPECT_FALSE(demo::is_letter(0x110000) || demo::is_number(0xFFFFFFFF));
}

TEST(unicode, classes_are_those_of_unicode_14) {
    std::size_t punctuation = 0;
    std::size_t letters = 0;
    std::size_t numbers = 0;
    std::u32string spaces;
    for (char32_t code_point = 0; code_point < 0x110000; ++code_point) {
        const bool letter = demo::is_letter(code_point);
        const bool number = demo::is_number(code_point);
        const bool space = demo::is_space(code_point);
        const bool sign = demo::is_punctuation(code_point);
        punctuation += sign ? 1u : 0u;
        letters += letter ? 1u : 0u;
        numbers += number ? 1u : 0u;
        if (space) spaces += code_point;
        ASSERT_LE(int{letter} + int{number} + int{space} + int{sign}, 1)
            << std::hex << static_cast<unsigned>(code_point);
    }
    EXPECT_EQ(punctuation, 819u);
    EXPECT_EQ(letters, 131756u);
    EXPECT_EQ(numbers, 1791u);
    const std::u32string white_space =
        U"\t\n\v\f\r \x85\xA0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F"
        U"\u205F\u3000";
    EXPECT_TRUE(spaces == white_space);
}

}  // namespace unicode_test
