#include "terminal.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

namespace demo {

std::size_t terminal_columns(int descriptor) {
    constexpr std::size_t least = 20, usual = 80;
    winsize size{};
    if (::isatty(descriptor) != 0 && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return std::max<std::size_t>(least, size.ws_col);
    }
    const char* const given = std::getenv("COLUMNS");
    std::size_t columns = 0;
    if (given == nullptr) return usual;
    const std::string_view text(given);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), columns);
    if (error != std::errc() || end != text.data() + text.size()) return usual;
    return std::max(least, columns);
}

std::size_t shown_width(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string wrapped(std::string_view text, const line_shape& shape) {
    std::string result;
    std::size_t column = shape.begun;
    bool line_has_words = false;
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] == ' ') {
            ++at;
            continue;
        }
        const std::size_t end = std::min(text.find(' ', at), text.size());
        const std::string_view word = text.substr(at, end - at);
        const std::size_t width = shown_width(word);
        if (line_has_words && column + 1 + width > shape.width) {
            result += '\n' + std::string(shape.indent, ' ');
            column = shape.indent;
            line_has_words = false;
        }
        if (line_has_words) result += ' ';
        result += word;
        column += width + (line_has_words ? 1 : 0);
        line_has_words = true;
        at = end;
    }
    return result;
}

std::string duration_text(double seconds) {
    const auto whole = static_cast<long>(std::ceil(std::clamp(seconds, 0.0, 3.6e9)));
    if (whole < 60) return std::to_string(whole) + " s";
    const auto two = [](long n) { return std::to_string(100 + n).substr(1); };
    if (whole < 3600) return std::to_string(whole / 60) + ':' + two(whole % 60);
    return std::to_string(whole / 3600) + ':' + two(whole / 60 % 60) + ':' + two(whole % 60);
}

std::string progress_line(const progress_state& state, std::size_t columns) {
    const double share = static_cast<double>(state.done) / static_cast<double>(std::max<std::size_t>(1, state.total));
    const std::size_t room = columns - 1;  // a character in the last column makes some terminals scroll
    const std::size_t width = std::min<std::size_t>(30, room / 3);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
    std::string text = "[";
    text.append(filled, '#').append(width - filled, ' ').append("] ");
    text.append(std::to_string(static_cast<int>(100 * share))).append(" %");
    if (state.done > 0) text.append(", ").append(duration_text(state.seconds * (1 - share) / share)).append(" left");
    if (!state.name.empty()) text.append("  ").append(state.name);
    return text.substr(0, room);
}

progress_bar::progress_bar(std::size_t total, bool quiet)
    : total_(std::max<std::size_t>(1, total)), shown_(!quiet && ::isatty(STDERR_FILENO) != 0) {}

void progress_bar::begin(std::string name) {
    const std::lock_guard lock(mutex_);
    name_ = std::move(name);
}

void progress_bar::advance(std::size_t tokens) {
    const std::lock_guard lock(mutex_);
    done_ += tokens;
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || (on_screen_ && now - drawn_ < std::chrono::milliseconds(50))) return;
    drawn_ = now;
    on_screen_ = true;
    const std::chrono::duration<double> since = now - start_;
    std::cerr << "\r\033[K" << progress_line({done_, total_, since.count(), name_}, terminal_columns(STDERR_FILENO))
              << std::flush;
}

void progress_bar::clear() {
    const std::lock_guard lock(mutex_);
    if (on_screen_) std::cerr << "\r\033[K" << std::flush;
    on_screen_ = false;
}

}  // namespace demo
