// Files that the program writes: each appears whole or not at all, and none destroys another.
//
//     demo::open_standard_descriptors();                   // first of all: no file may become standard output
//     demo::handle_signals();
//     demo::check_files({{"--text", text}}, {{"--json", json}, {"--nll", nll}});  // throws where two are one file
//     demo::output_file file(json);                        // throws if it cannot be written
//     file.stream() << ...;
//     file.commit();                                       // until here, what was at `json` is untouched
//
// commit() writes a new file beside the old one, waits until it is on the disk, and gives it the old one's name. The
// new file has the mode of the old one. A symbolic link stays and its target is replaced. Other hard links keep the old
// content. Devices and pipes are written directly, and so are descriptors of the program: `-`, /dev/stdout, /dev/fd/3.
#pragma once

#include <csignal>
#include <filesystem>
#include <iosfwd>
#include <sstream>
#include <string>
#include <vector>

namespace demo {

/// Gives descriptors 0 to 2 to /dev/null where they are closed, the wrong way round, so that using them still fails.
void open_standard_descriptors();

/// A signal that ends the program also removes what commit() has begun. A closed pipe and a file that grows too long
/// fail the write instead of ending the program.
void handle_signals();

/// From here on the first signal that would end the program (SIGINT, SIGTERM, SIGHUP or SIGXCPU) is only noted, so that
/// the program can stop with what is done. The second one ends it, and so does SIGQUIT.
void postpone_signals() noexcept;
/// The signal that was noted; 0 for none.
[[nodiscard]] int postponed_signal() noexcept;
/// Ends the program with the status of the signal that was noted; returns if there is none.
void end_by_postponed_signal() noexcept;

/// Keeps those signals from the threads that are started while it lives, so that handlers run on the first thread only.
class signals_blocked {
  public:
    signals_blocked() noexcept;
    ~signals_blocked();
    signals_blocked(const signals_blocked&) = delete;
    signals_blocked& operator=(const signals_blocked&) = delete;

  private:
    sigset_t before_;
};

/// A file that an option names. Path "-" is standard input for an input and standard output for an output.
struct named_file {
    std::string name;  ///< for messages: "--json"
    std::filesystem::path path;
};

/// Throws std::invalid_argument where an output is the same file as an input or as another output, by whatever path or
/// link. Outputs may share /dev/null; inputs and outputs may share a terminal.
void check_files(const std::vector<named_file>& inputs, const std::vector<named_file>& outputs);

/// One output. The constructor and commit() throw std::runtime_error that names the path and the reason.
class output_file {
  public:
    explicit output_file(std::filesystem::path path);
    ~output_file();
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;

    /// Collects the content in memory.
    std::ostream& stream() noexcept { return content_; }
    /// Writes the content, and empties it. What replaces a file may be committed again, with new content.
    void commit();
    /// Whether commit() replaces a file; else it writes to a pipe, a device or a descriptor, and only once.
    [[nodiscard]] bool replaces() const noexcept { return !target_.empty(); }

  private:
    void replace();

    std::filesystem::path path_;
    std::filesystem::path target_;  // where links lead; empty: written directly
    int direct_ = -1;               // descriptor of what is written directly
    std::ostringstream content_;
};

}  // namespace demo
