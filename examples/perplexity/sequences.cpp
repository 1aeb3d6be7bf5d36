#include "sequences.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "gguf.hpp"

namespace demo {

std::vector<sequence> cut(std::span<const token> tokens, std::optional<token> bos, std::size_t context) {
    const std::size_t payload = context - (bos ? 1 : 0);
    std::vector<sequence> sequences;
    for (std::size_t begin = 0; begin < tokens.size(); begin += payload) {
        const auto piece = tokens.subspan(begin, std::min(payload, tokens.size() - begin));
        sequence s;
        if (bos) s.push_back(*bos);
        s.insert(s.end(), piece.begin(), piece.end());
        if (2 * s.size() >= context) sequences.push_back(std::move(s));
    }
    return sequences;
}

std::vector<sequence> read_tokens(const std::filesystem::path& path, std::size_t vocabulary) {
    std::istringstream lines(read_file(path));
    std::vector<sequence> sequences;
    std::size_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        std::istringstream words(line);
        sequence s;
        for (std::string word; words >> word;) {
            token id = -1;
            const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
            const bool whole = error == std::errc() && end == word.data() + word.size();
            if (!whole || id < 0 || static_cast<std::size_t>(id) >= vocabulary) {
                throw std::runtime_error(path.string() + ": line " + std::to_string(number) + ": " +
                                         demo::quoted(word) + " is not a token id; the model has 0 to " +
                                         std::to_string(vocabulary - 1));
            }
            s.push_back(id);
        }
        if (!s.empty()) sequences.push_back(std::move(s));
    }
    return sequences;
}

void print_tokens(std::ostream& out, std::span<const sequence> sequences) {
    for (const sequence& s : sequences) {
        for (std::size_t i = 0; i < s.size(); ++i) out << (i == 0 ? "" : " ") << s[i];
        out << '\n';
    }
}

void limit_predictions(std::vector<sequence>& sequences, std::size_t limit) {
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        const std::size_t predicted = sequences[i].size() - 1;
        if (predicted >= limit) {
            sequences[i].resize(limit + 1);
            sequences.resize(limit == 0 ? i : i + 1);
            return;
        }
        limit -= predicted;
    }
}

std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf())) {
        if (file && std::filesystem::is_regular_file(path) && std::filesystem::file_size(path) == 0) return {};
        throw std::runtime_error(path.string() + ": cannot be read");
    }
    return std::move(text).str();
}

}  // namespace demo
