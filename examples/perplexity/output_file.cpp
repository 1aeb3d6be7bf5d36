#include "output_file.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace demo {

namespace {

namespace fs = std::filesystem;

/// The unfinished file, for the signal handler. One at a time.
std::atomic<const char*> unfinished = nullptr;
static_assert(std::atomic<const char*>::is_always_lock_free, "signal handlers may not wait");

constexpr std::array ending_signals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};

volatile std::sig_atomic_t postponing = 0;
volatile std::sig_atomic_t postponed = 0;

extern "C" void on_signal(int signal) {
    if (postponing != 0 && postponed == 0 && signal != SIGQUIT) {
        postponed = signal;
        return;
    }
    if (const char* const name = unfinished.load()) ::unlink(name);
    std::signal(signal, SIG_DFL);  // which ends the program with the status of this signal
    ::raise(signal);
}

[[noreturn]] void fail(const fs::path& path, int error) {
    throw std::runtime_error(path.string() + ": cannot be written: " + std::generic_category().message(error));
}

class descriptor {
  public:
    explicit descriptor(int value) : value_(value) {}
    ~descriptor() { close(); }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;

    [[nodiscard]] int value() const { return value_; }
    bool close() { return value_ < 0 || ::close(std::exchange(value_, -1)) == 0; }

  private:
    int value_;
};

/// A new file in the folder of `target`, under a name that nobody has. Gone with the object unless it was renamed.
class new_file {
  public:
    explicit new_file(const fs::path& target) : file_(create(target)) {}
    ~new_file() {
        if (!kept_) ::unlink(name_.c_str());
        unfinished = nullptr;
    }
    new_file(const new_file&) = delete;
    new_file& operator=(const new_file&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }
    descriptor& file() { return file_; }
    /// It has been renamed, or is to stay.
    void keep() {
        unfinished = nullptr;
        kept_ = true;
    }

  private:
    int create(const fs::path& target) {
        std::random_device random;
        for (int attempt = 0; attempt < 16; ++attempt) {
            name_ = (target.parent_path() / (".perplexity-" + std::to_string(random()) + ".partial")).string();
            unfinished = name_.c_str();  // before it exists: a signal may come at once
            const int file = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (file >= 0) return file;
            unfinished = nullptr;
            if (errno != EEXIST) break;
        }
        const int error = errno;
        if (error != EACCES && error != EPERM) fail(target, error);
        throw std::runtime_error(target.string() + ": cannot be written: no file can be made in its folder: " +
                                 std::generic_category().message(error));
    }

    std::string name_;
    descriptor file_;
    bool kept_ = false;
};

std::optional<struct stat> status_of(const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    return status;
}

std::optional<struct stat> status_of(int file) {
    struct stat status {};
    if (::fstat(file, &status) != 0) return std::nullopt;
    return status;
}

/// Where a path leads: a descriptor of this program, or a file, which need not exist.
struct place {
    int descriptor = -1;
    fs::path path;
    std::optional<struct stat> status;
};

/// Links are followed by hand, because the last one may lead to a file that does not exist.
place place_of(const fs::path& path, int standard) {
    if (path == "-") return {.descriptor = standard, .path = {}, .status = status_of(standard)};
    std::error_code error;
    fs::path at = path;
    for (int links = 0; links < 40; ++links) {
        const fs::path folder = fs::canonical(at.has_parent_path() ? at.parent_path() : fs::path("."), error);
        if (error) return {.descriptor = -1, .path = at, .status = status_of(path)};
        at = folder / at.filename();
        const std::string name = at.filename().string();
        if (folder == fs::canonical("/dev/fd", error) && name.size() < 6 && !name.empty() &&
            name.find_first_not_of("0123456789") == std::string::npos) {
            return {.descriptor = std::stoi(name), .path = at, .status = status_of(std::stoi(name))};
        }
        if (!fs::is_symlink(at, error)) break;
        at = folder / fs::read_symlink(at, error);
    }
    return {.descriptor = -1, .path = at, .status = status_of(path)};
}

bool is_null_device(const struct stat& status) {
    const auto null = status_of("/dev/null");
    return null && S_ISCHR(status.st_mode) && status.st_rdev == null->st_rdev;
}

bool same(const place& a, const place& b) {
    if (a.status && b.status) return a.status->st_dev == b.status->st_dev && a.status->st_ino == b.status->st_ino;
    return !a.status && !b.status && a.path == b.path;
}

/// Bytes that one call may leave for the next. Returns errno, or 0.
int write_all(int file, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file, bytes.data(), bytes.size());
        if (written < 0 && errno != EINTR) return errno;
        if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return 0;
}

}  // namespace

void open_standard_descriptors() {
    for (const int wanted : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(wanted, F_GETFD) >= 0 || errno != EBADF) continue;
        // The lowest free number, which is this one.
        static_cast<void>(::open("/dev/null", wanted == STDIN_FILENO ? O_WRONLY : O_RDONLY));
    }
}

void handle_signals() {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    for (const int signal : ending_signals) {
        struct sigaction action {};
        // Who ignores a signal, as nohup does, goes on ignoring it.
        if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
        action = {};
        action.sa_handler = on_signal;
        action.sa_flags = SA_NODEFER | SA_RESTART;
        ::sigaction(signal, &action, nullptr);
    }
}

void postpone_signals() noexcept { postponing = 1; }

int postponed_signal() noexcept { return postponed; }

void end_by_postponed_signal() noexcept {
    if (postponed == 0) return;
    std::signal(postponed, SIG_DFL);
    ::raise(postponed);
}

signals_blocked::signals_blocked() noexcept : before_() {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    for (const int signal : ending_signals) ::sigaddset(&blocked, signal);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before_);
}

signals_blocked::~signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void check_files(const std::vector<named_file>& inputs, const std::vector<named_file>& outputs) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const named_file& output = outputs[i];
        const place there = place_of(output.path, STDOUT_FILENO);
        for (const named_file& input : inputs) {
            const place read = place_of(input.path, STDIN_FILENO);
            if (!same(there, read) || !there.status || !S_ISREG(there.status->st_mode)) continue;
            throw std::invalid_argument(output.name + " would overwrite what " + input.name +
                                        " reads: " + output.path.string());
        }
        if (there.status && is_null_device(*there.status)) continue;
        for (std::size_t j = 0; j < i; ++j) {
            if (!same(there, place_of(outputs[j].path, STDOUT_FILENO))) continue;
            throw std::invalid_argument(outputs[j].name + " and " + output.name +
                                        " would be written to the same file: " + output.path.string());
        }
    }
}

output_file::output_file(std::filesystem::path path) : path_(std::move(path)) {
    const place there = place_of(path_, STDOUT_FILENO);
    if (there.descriptor >= 0) {
        const int flags = ::fcntl(there.descriptor, F_GETFL);
        if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) fail(path_, EBADF);
        direct_ = ::fcntl(there.descriptor, F_DUPFD_CLOEXEC, 3);
        if (direct_ < 0) fail(path_, errno);
    } else if (there.status && S_ISDIR(there.status->st_mode)) {
        fail(path_, EISDIR);
    } else if (there.status && !S_ISREG(there.status->st_mode)) {
        direct_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (direct_ < 0) fail(path_, errno);
    } else {
        if (there.status && ::access(path_.c_str(), W_OK) != 0) fail(path_, errno);
        if (!there.path.has_filename()) fail(path_, ENOENT);
        if (fs::is_symlink(there.path)) fail(path_, ELOOP);
        target_ = there.path;
        const new_file probe(target_);  // whatever forbids to write is known before the work begins
    }
}

output_file::~output_file() {
    if (direct_ >= 0) ::close(direct_);
}

void output_file::commit() {
    if (!content_) fail(path_, ENOMEM);
    if (replaces()) {
        replace();
        content_.str({});
        return;
    }
    if (const int error = write_all(direct_, content_.view())) fail(path_, error);
    if (::close(std::exchange(direct_, -1)) != 0) fail(path_, errno);
}

void output_file::replace() {
    new_file fresh(target_);
    const int file = fresh.file().value();
    if (const auto old = status_of(target_)) {
        // The owner first, because a new owner clears bits of the mode. Only root can keep another user's file theirs.
        [[maybe_unused]] const int owner = ::fchown(file, old->st_uid, old->st_gid);
        if (::fchmod(file, old->st_mode & 07777) != 0) fail(path_, errno);
    }
    if (const int error = write_all(file, content_.view())) fail(path_, error);
    // Some file systems have nothing to synchronize, and say so.
    if (::fsync(file) != 0 && errno != EINVAL && errno != ENOSYS) fail(path_, errno);
    if (!fresh.file().close()) fail(path_, errno);
    const int error = ::rename(fresh.name().c_str(), target_.c_str()) == 0 ? 0 : errno;
    fresh.keep();
    if (error == 0) return;
    throw std::runtime_error(path_.string() + ": cannot be replaced: " + std::generic_category().message(error) +
                             "; the new content is in " + fresh.name());
}

}  // namespace demo
