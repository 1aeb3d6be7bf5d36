// A folder for one test, empty at first and gone with it.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>

#include <gtest/gtest.h>

namespace demo {

class temporary_folder {
  public:
    temporary_folder() : path_(std::filesystem::path(testing::TempDir()) / unique_name()) {
        std::filesystem::create_directories(path_);
    }
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    /// The path of a file in here.
    [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

    std::filesystem::path write(std::string_view name, std::string_view content) const {
        std::ofstream file(path_ / name, std::ios::binary | std::ios::trunc);
        file << content << std::flush;
        if (!file) throw std::runtime_error("cannot write " + (path_ / name).string());
        return path_ / name;
    }

  private:
    // Tests run as processes side by side, and each may want several folders.
    static std::string unique_name() {
        static std::atomic<int> made{0};
        return "multistate-perplexity-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
    }

    std::filesystem::path path_;
};

inline std::string content_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace demo
