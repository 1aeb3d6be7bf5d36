// What may look at what: the rooms of include/multistate, and which of them a header may include.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace includes_test {

namespace fs = std::filesystem;
const fs::path root = MULTISTATE_INCLUDE_FOLDER;

/// A header may include its own room and those named here; opt-in rooms are named by none but each other.
const std::map<std::string, std::set<std::string>> may_include{
    {"core", {}},
    {"simd", {"core"}},
    {"math", {"core", "simd"}},
    {"execution", {"core"}},
    {"policy", {"core", "simd", "math"}},
    {"policies", {"core", "simd", "math", "policy", "modifiers", "mergers"}},
    {"modifiers", {"core", "simd", "math", "policy"}},
    {"mergers", {"core", "simd", "math", "policy"}},
    {"table", {"core", "simd", "math", "policy"}},
    {"codecs", {"core", "simd"}},
    {"cache", {"core", "simd", "math", "policy", "table", "codecs"}},
    {"attention", {"core", "simd", "math", "execution", "policy", "table", "codecs", "cache"}},
    {"budgets", {"core", "simd", "math", "execution", "policy", "table", "codecs", "cache", "attention"}},
    {"evaluation", {"core", "simd", "math", "policy", "modifiers"}},
    {"recurrent", {"core", "simd", "math", "execution", "policy", "table", "codecs", "cache", "attention"}},
};

struct header {
    std::string name;  // relative to the root
    std::string text;
    std::vector<std::string> includes;  // as they stand between the quotes or brackets

    std::string room() const {
        const auto slash = name.find('/');
        return slash == std::string::npos ? "" : name.substr(0, slash);
    }
};

/// The headers of the library, by name.
const std::map<std::string, header>& headers() {
    static const auto all = [] {
        std::map<std::string, header> result;
        const std::regex include("(?:^|\n) *# *include *[\"<]([^\">]+)");
        for (const auto& entry : fs::recursive_directory_iterator(root)) {
            if (entry.path().extension() != ".hpp") continue;
            header h{fs::relative(entry.path(), root).generic_string(), {}, {}};
            std::ifstream file(entry.path());
            h.text.assign(std::istreambuf_iterator<char>(file), {});
            for (std::sregex_iterator i(h.text.begin(), h.text.end(), include), end; i != end; ++i) {
                h.includes.push_back((*i)[1]);
            }
            result.emplace(h.name, h);
        }
        return result;
    }();
    return all;
}

/// The names of those of our headers that a header includes.
std::vector<std::string> ours(const header& h) {
    std::vector<std::string> result;
    for (const std::string& name : h.includes) {
        if (name.starts_with("multistate/")) result.push_back(name.substr(std::string("multistate/").size()));
    }
    return result;
}

TEST(includes, go_down_only) {
    ASSERT_GT(headers().size(), 80u);
    for (const auto& [name, h] : headers()) {
        if (h.room().empty()) continue;  // the umbrella and the version
        ASSERT_TRUE(may_include.contains(h.room())) << name << ": a room that this test does not know";
        for (const std::string& other : ours(h)) {
            if (!headers().contains(other)) continue;  // target.hpp includes a file that is missing, to stop compilers
            const std::string& room = headers().at(other).room();
            EXPECT_TRUE(room == h.room() || may_include.at(h.room()).contains(room)) << name << " includes " << other;
        }
    }
}

/// Of the room recurrent, only replaced heads know a cache: cells are usable without any.
TEST(includes, cells_know_no_cache) {
    for (const auto& [name, h] : headers()) {
        if (h.room() != "recurrent" || name.starts_with("recurrent/replaced_heads")) continue;
        for (const std::string& other : ours(h)) {
            const std::string& room = headers().at(other).room();
            EXPECT_TRUE(room == "recurrent" || room == "core" || room == "simd" || room == "math" ||
                        room == "execution")
                << name << " includes " << other;
        }
    }
}

/// The longest chain of includes from a header on; a header that includes itself by others is a failure.
std::size_t depth(const std::string& name, std::set<std::string>& above, std::map<std::string, std::size_t>& known) {
    if (known.contains(name)) return known[name];
    EXPECT_TRUE(above.insert(name).second) << name << " includes itself";
    std::size_t most = 0;
    for (const std::string& other : ours(headers().at(name))) {
        if (headers().contains(other) && !above.contains(other)) most = std::max(most, depth(other, above, known));
        EXPECT_FALSE(above.contains(other)) << name << " and " << other << " include each other";
    }
    above.erase(name);
    return known[name] = most + 1;
}

TEST(includes, make_no_circle_and_no_long_chain) {
    std::map<std::string, std::size_t> known;
    for (const auto& [name, h] : headers()) {
        std::set<std::string> above;
        EXPECT_LT(depth(name, above, known), 13u) << name;
    }
}

TEST(includes, highway_is_named_in_simd_only) {
    for (const auto& [name, h] : headers()) {
        if (h.room() == "simd") continue;
        EXPECT_FALSE(std::regex_search(h.text, std::regex("\\bhwy\\b|\\bhn::|\\bHWY_"))) << name;
    }
}

TEST(includes, highway_is_included_by_one_header) {
    for (const auto& [name, h] : headers()) {
        const bool included =
            std::ranges::any_of(h.includes, [](const auto& file) { return file.starts_with("hwy/"); });
        EXPECT_EQ(included, name == "simd/highway.hpp") << name;
    }
}

TEST(includes, eigen_is_named_in_the_reference_only) {
    for (const auto& [name, h] : headers()) {
        const bool named = std::ranges::any_of(h.includes, [](const auto& file) { return file.starts_with("Eigen/"); });
        EXPECT_EQ(named, name == "attention/reference.hpp") << name;
    }
}

}  // namespace includes_test
