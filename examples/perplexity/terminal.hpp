// Text that fits the terminal: its width, wrapped paragraphs, and a bar that never scrolls.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>

namespace demo {

/// Columns of the terminal that a descriptor leads to; where it leads to none, the environment's COLUMNS, else 80.
/// Never below 20.
[[nodiscard]] std::size_t terminal_columns(int descriptor);

/// Characters that a terminal shows of UTF-8; each is taken to fill one column.
[[nodiscard]] std::size_t shown_width(std::string_view text);

/// Words in lines of at most `width` columns (longer words stay whole), each behind `indent` spaces, without a newline
/// at the end. The first line is taken to have `begun` columns already and gets no indent.
struct line_shape {
    std::size_t width;
    std::size_t indent = 0;
    std::size_t begun = 0;
};
[[nodiscard]] std::string wrapped(std::string_view text, const line_shape& shape);

/// "12 s", "4:07", "2:03:59"
[[nodiscard]] std::string duration_text(double seconds);

/// A line of at most columns - 1 columns: how much is done, how long the rest takes, and what is measured now. What
/// does not fit is left out from the right.
struct progress_state {
    std::size_t done;
    std::size_t total;
    double seconds;  ///< since the start
    std::string_view name;
};
[[nodiscard]] std::string progress_line(const progress_state& state, std::size_t columns);

/// The bar on standard error, only where that is a terminal. Its functions may be called from any thread.
class progress_bar {
  public:
    progress_bar(std::size_t total, bool quiet);
    ~progress_bar() { clear(); }
    progress_bar(const progress_bar&) = delete;
    progress_bar& operator=(const progress_bar&) = delete;

    void begin(std::string name);
    void advance(std::size_t tokens);
    /// Takes the bar from the screen, so that something else can be printed.
    void clear();

  private:
    std::mutex mutex_;
    std::size_t total_;
    std::size_t done_ = 0;
    bool shown_;
    bool on_screen_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point drawn_;
    std::string name_;
};

}  // namespace demo
