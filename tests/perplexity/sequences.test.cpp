// How a text becomes sequences, and how token ids come from a file and go back into one.
#include "sequences.hpp"

#include <numeric>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "support/temporary_folder.hpp"

namespace sequences_test {

using demo::cut;
using demo::sequence;
using demo::token;
using sequences = std::vector<sequence>;

/// 100, 101, …
std::vector<token> counted(std::size_t n) {
    std::vector<token> tokens(n);
    std::iota(tokens.begin(), tokens.end(), 100);
    return tokens;
}

std::vector<std::size_t> lengths(const sequences& all) {
    std::vector<std::size_t> sizes;
    for (const sequence& s : all) sizes.push_back(s.size());
    return sizes;
}

using sizes = std::vector<std::size_t>;

TEST(Cut, ASequenceIsBosAndContextLessOneTokens) {
    EXPECT_EQ(cut(counted(6), 1, 4), (sequences{{1, 100, 101, 102}, {1, 103, 104, 105}}));
    EXPECT_EQ(cut(counted(3), 1, 4), (sequences{{1, 100, 101, 102}}));
    EXPECT_EQ(cut(counted(3), 1, 2), (sequences{{1, 100}, {1, 101}, {1, 102}}));
}

TEST(Cut, WithoutBosTheTextAloneFillsTheContext) {
    EXPECT_EQ(cut(counted(6), std::nullopt, 3), (sequences{{100, 101, 102}, {103, 104, 105}}));
}

TEST(Cut, ALastOneShorterThanHalfIsDropped) {
    // Context 8: 7 tokens each. The last one counts with its BOS: 4 of 8 is half, and is kept.
    EXPECT_EQ(lengths(cut(counted(14), 1, 8)), (sizes{8, 8}));
    EXPECT_EQ(lengths(cut(counted(15), 1, 8)), (sizes{8, 8}));
    EXPECT_EQ(lengths(cut(counted(16), 1, 8)), (sizes{8, 8}));
    EXPECT_EQ(lengths(cut(counted(17), 1, 8)), (sizes{8, 8, 4}));
    EXPECT_EQ(lengths(cut(counted(20), 1, 8)), (sizes{8, 8, 7}));
    // An odd context: half of 7 is 3.5, so 4 are kept and 3 are not.
    EXPECT_EQ(lengths(cut(counted(6 + 2), 1, 7)), (sizes{7}));
    EXPECT_EQ(lengths(cut(counted(6 + 3), 1, 7)), (sizes{7, 4}));
    EXPECT_EQ(lengths(cut(counted(8 + 3), std::nullopt, 8)), (sizes{8}));
    EXPECT_EQ(lengths(cut(counted(8 + 4), std::nullopt, 8)), (sizes{8, 4}));
    // The only one is the last one.
    EXPECT_EQ(lengths(cut(counted(2), 1, 8)), sizes{});
    EXPECT_EQ(lengths(cut(counted(3), 1, 8)), sizes{4});
}

TEST(Cut, NothingGivesNothing) {
    EXPECT_TRUE(cut({}, 1, 8).empty());
    EXPECT_TRUE(cut({}, std::nullopt, 2).empty());
}

TEST(Cut, EveryTokenOfTheTextInOrder) {
    for (const std::size_t context : {2U, 3U, 10U, 64U}) {
        std::vector<token> all;
        for (const sequence& s : cut(counted(630), 1, context)) {
            EXPECT_EQ(s.front(), 1);
            all.insert(all.end(), s.begin() + 1, s.end());
        }
        const auto expected = counted(630);
        ASSERT_LE(all.size(), expected.size());
        EXPECT_GE(all.size() + context / 2, expected.size());
        EXPECT_TRUE(std::equal(all.begin(), all.end(), expected.begin()));
    }
}

TEST(Limit, CountsPredictedTokens) {
    const auto limited = [](std::size_t limit) {
        sequences all{{1, 2, 3, 4}, {5}, {6, 7}, {8, 9, 10}};  // 3, 0, 1 and 2 predictions
        demo::limit_predictions(all, limit);
        return all;
    };
    EXPECT_EQ(limited(1), (sequences{{1, 2}}));
    EXPECT_EQ(limited(2), (sequences{{1, 2, 3}}));
    EXPECT_EQ(limited(3), (sequences{{1, 2, 3, 4}}));
    EXPECT_EQ(limited(4), (sequences{{1, 2, 3, 4}, {5}, {6, 7}}));
    EXPECT_EQ(limited(5), (sequences{{1, 2, 3, 4}, {5}, {6, 7}, {8, 9}}));
    EXPECT_EQ(limited(6), (sequences{{1, 2, 3, 4}, {5}, {6, 7}, {8, 9, 10}}));
    EXPECT_EQ(limited(7), limited(6));
    EXPECT_EQ(limited(1 << 30), limited(6));
}

class TokenFile : public testing::Test {
  protected:
    sequences read(std::string_view content, std::size_t vocabulary = 512) {
        return demo::read_tokens(folder_.write("ids.txt", content), vocabulary);
    }
    void expect_refused(std::string_view content, const std::vector<std::string>& parts) {
        try {
            static_cast<void>(read(content));
            ADD_FAILURE() << "taken: " << content;
        } catch (const std::runtime_error& problem) {
            const std::string message = problem.what();
            EXPECT_EQ(message.find((folder_ / "ids.txt").string() + ": line "), 0U) << message;
            for (const auto& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        }
    }
    demo::temporary_folder folder_;
};

TEST_F(TokenFile, OneSequencePerLine) {
    EXPECT_EQ(read("1 2 3\n4 5\n"), (sequences{{1, 2, 3}, {4, 5}}));
    EXPECT_EQ(read("1 2 3\n4 5"), (sequences{{1, 2, 3}, {4, 5}}));  // no newline at the end
    EXPECT_EQ(read("0 511\n"), (sequences{{0, 511}}));
    EXPECT_EQ(read("7\n"), (sequences{{7}}));
}

TEST_F(TokenFile, SpaceAndEmptyLinesAreForgiven) {
    EXPECT_EQ(read("\n\n  1   2\t3 \r\n \n4 5\r\n\n"), (sequences{{1, 2, 3}, {4, 5}}));
    EXPECT_TRUE(read("").empty());
    EXPECT_TRUE(read("\n \n").empty());
}

TEST_F(TokenFile, WhatIsNoIdIsNamedWithItsLine) {
    expect_refused("1 2\n3 x 4\n", {"line 2", "'x'", "0 to 511"});
    expect_refused("1 -2\n", {"line 1", "'-2'"});
    expect_refused("1 +2\n", {"'+2'"});
    expect_refused("1 2.0\n", {"'2.0'"});
    expect_refused("1,2\n", {"'1,2'"});
    expect_refused("0x10\n", {"'0x10'"});
    expect_refused("\n\n512\n", {"line 3", "'512'", "0 to 511"});
    expect_refused("2147483648\n", {"'2147483648'"});
    expect_refused("99999999999999999999999999\n", {"99999999999999999999999999"});
    expect_refused(std::string("1\0 2\n", 5), {"line 1", "1"});
    expect_refused("1 \x1b[31m2\n", {"line 1"});
}

TEST_F(TokenFile, AHugeWordIsNotRepeatedInFull) {
    try {
        static_cast<void>(read("1 " + std::string(1000000, '9') + "\n"));
        ADD_FAILURE() << "taken";
    } catch (const std::runtime_error& problem) {
        EXPECT_LT(std::string(problem.what()).size(), folder_.path().string().size() + 400);
    }
}

TEST_F(TokenFile, WhatIsPrintedIsReadAgain) {
    const sequences all{{1, 2, 3}, {511}, {0, 0, 0, 7}};
    std::ostringstream out;
    demo::print_tokens(out, all);
    EXPECT_EQ(out.str(), "1 2 3\n511\n0 0 0 7\n");
    EXPECT_EQ(read(out.str()), all);
}

TEST(ReadFile, WholeOrNamed) {
    const demo::temporary_folder folder;
    const std::string bytes("a\0b\r\n\xff", 6);
    EXPECT_EQ(demo::read_file(folder.write("text", bytes)), bytes);
    EXPECT_EQ(demo::read_file(folder.write("empty", "")), "");
    for (const auto& path : {folder / "absent", folder.path()}) {
        try {
            static_cast<void>(demo::read_file(path));
            ADD_FAILURE() << path << " was read";
        } catch (const std::runtime_error& problem) {
            EXPECT_EQ(std::string(problem.what()).find(path.string() + ": "), 0U) << problem.what();
        }
    }
}

TEST(ReadFile, NoMoreThanTheLimit) {
    const demo::temporary_folder folder;
    const auto path = folder.write("text", std::string(100'000, 'x'));
    EXPECT_EQ(demo::read_file(path, 100'000).size(), 100'000U);
    for (const auto& [file, most] : {std::pair(path, 99'999), std::pair(std::filesystem::path("/dev/zero"), 7)}) {
        try {
            static_cast<void>(demo::read_file(file, static_cast<std::size_t>(most)));
            ADD_FAILURE() << file << " was read";
        } catch (const std::runtime_error& problem) {
            EXPECT_NE(std::string(problem.what()).find(file.string() + ": is longer than " + std::to_string(most)),
                      std::string::npos)
                << problem.what();
        }
    }
}

TEST(OddBytes, AreCountedAndTheFirstIsPlaced) {
    EXPECT_EQ(demo::odd_bytes(""), "");
    EXPECT_EQ(demo::odd_bytes("plain, \xc3\xa9, \xef\xbf\xbd\r\n"), "");  // U+FFFD itself is well-formed
    EXPECT_EQ(demo::odd_bytes("ab\xe9").find("1 byte is not UTF-8 (at offset 2): "), 0U);
    EXPECT_EQ(demo::odd_bytes(std::string("a\0b\0c\xff", 6))
                  .find("1 byte is not UTF-8 (at offset 5) and 2 bytes are 0 (the first at offset 1): "),
              0U);
}

}  // namespace sequences_test
