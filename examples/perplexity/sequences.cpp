#include "sequences.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <unistd.h>

#include "gguf.hpp"
#include "unicode.hpp"

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
                throw std::runtime_error(name_of(path) + ": line " + std::to_string(number) + ": " +
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

std::string read_file(const std::filesystem::path& path, std::size_t most) {
    const auto fail = [&](const std::string& why) { return std::runtime_error(name_of(path) + ": " + why); };
    const auto cannot = [&] { return fail("cannot be read: " + std::generic_category().message(errno)); };
    struct descriptor {
        int value;
        ~descriptor() {
            if (value > STDERR_FILENO) ::close(value);
        }
    };
    const descriptor file{path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.value < 0) throw cannot();
    std::string text;
    for (std::size_t piece = std::size_t{1} << 16;; piece = std::max(piece, text.size())) {
        const std::size_t size = text.size();
        text.resize(size + std::min(piece, most + 1 - size));  // a byte too many tells a longer file
        const ssize_t count = ::read(file.value, text.data() + size, text.size() - size);
        text.resize(size + (count > 0 ? static_cast<std::size_t>(count) : 0));
        if (count == 0) return text;
        if (count < 0 && errno != EINTR) throw cannot();
        if (text.size() > most) throw fail("is longer than " + std::to_string(most) + " bytes, the most that is read");
    }
}

std::string name_of(const std::filesystem::path& path) { return path == "-" ? "standard input" : path.string(); }

std::string odd_bytes(std::string_view text) {
    struct bytes {
        std::size_t count = 0;
        std::size_t first = 0;
        void add(std::size_t at) {
            if (count++ == 0) first = at;
        }
        [[nodiscard]] std::string said(const std::string& what) const {
            return std::to_string(count) + (count == 1 ? " byte is " : " bytes are ") + what + " (" +
                   (count == 1 ? "" : "the first ") + "at offset " + std::to_string(first) + ")";
        }
    };
    bytes ill_formed, zero;
    for (std::size_t at = 0; at < text.size();) {
        const character next = decode(text.substr(at));
        if (next.code_point == 0xFFFD && next.length == 1) ill_formed.add(at);
        if (next.code_point == 0) zero.add(at);
        at += next.length;
    }
    if (ill_formed.count + zero.count == 0) return "";
    return (ill_formed.count > 0 ? ill_formed.said("not UTF-8") : "") +
           (ill_formed.count > 0 && zero.count > 0 ? " and " : "") + (zero.count > 0 ? zero.said("0") : "") +
           ": the tokenizer takes such bytes as they are";
}

}  // namespace demo
