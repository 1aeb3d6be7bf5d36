// Files that appear whole or not at all, whatever lies there, whoever else writes, and however the program ends.
#include "output_file.hpp"

#include <csignal>
#include <fcntl.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "support/temporary_folder.hpp"

namespace output_file_test {

using demo::output_file;
namespace fs = std::filesystem;

std::ptrdiff_t files_in(const demo::temporary_folder& folder) {
    return std::distance(fs::directory_iterator(folder.path()), {});
}

void write(const fs::path& path, const std::string& content) {
    output_file file(path);
    file.stream() << content;
    file.commit();
}

/// How a child process ends that does this.
template <class Work>
int status_of_child(Work work) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            work();
        } catch (...) {
            ::_exit(99);
        }
        ::_exit(0);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
}

TEST(OutputFile, AppearsWholeWhenCommitted) {
    const demo::temporary_folder folder;
    const auto path = folder / "result.json";
    {
        output_file file(path);
        file.stream() << "first half, " << std::flush;
        EXPECT_FALSE(std::filesystem::exists(path));
        file.stream() << "second half";
        file.commit();
    }
    EXPECT_EQ(demo::content_of(path), "first half, second half");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(OutputFile, NotCommittedLeavesNothing) {
    const demo::temporary_folder folder;
    { output_file(folder / "result.json").stream() << "half"; }
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(OutputFile, NotCommittedLeavesWhatWasThere) {
    const demo::temporary_folder folder;
    const auto path = folder.write("result.json", "yesterday's");
    { output_file(path).stream() << "half"; }
    EXPECT_EQ(demo::content_of(path), "yesterday's");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
    {
        output_file file(path);
        file.stream() << "today's";
        file.commit();
    }
    EXPECT_EQ(demo::content_of(path), "today's");
}

TEST(OutputFile, WhereNothingCanBeWrittenIsSaidAtOnce) {
    const demo::temporary_folder folder;
    for (const auto& path : {folder / "absent/result.json", folder.path()}) {
        try {
            const output_file file(path);
            ADD_FAILURE() << path << " was opened";
        } catch (const std::runtime_error& problem) {
            EXPECT_EQ(std::string(problem.what()).find(path.string() + ": cannot be written: "), 0U) << problem.what();
        }
    }
}

TEST(OutputFile, DevicesAreWrittenInPlace) {
    output_file file("/dev/null");
    file.stream() << "gone";
    file.commit();
    EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(OutputFile, AFullDeviceIsSaid) {
    if (!std::filesystem::exists("/dev/full")) return;  // Linux has it
    output_file file("/dev/full");
    file.stream() << "too much";
    EXPECT_THROW(file.commit(), std::runtime_error);
}

TEST(OutputFile, OthersOfItsNameStay) {
    const demo::temporary_folder folder;
    const auto partial = folder.write("result.json.partial", "a user's own");
    output_file first(folder / "result.json");
    output_file second(folder / "result.json");
    first.stream() << "first";
    second.stream() << "second";
    second.commit();
    EXPECT_EQ(demo::content_of(folder / "result.json"), "second");
    first.commit();
    EXPECT_EQ(demo::content_of(folder / "result.json"), "first");
    EXPECT_EQ(demo::content_of(partial), "a user's own");
    EXPECT_EQ(files_in(folder), 2);
}

TEST(OutputFile, LinksStayAndLeadToWhatIsWritten) {
    const demo::temporary_folder folder;
    fs::create_directory(folder / "there");
    folder.write("there/old", "old");
    fs::create_symlink("there/old", folder / "link");
    fs::create_symlink("link", folder / "link to link");
    fs::create_symlink("there/new", folder / "dangling");
    write(folder / "link to link", "1");
    write(folder / "dangling", "2");
    EXPECT_EQ(demo::content_of(folder / "there/old"), "1");
    EXPECT_EQ(demo::content_of(folder / "there/new"), "2");
    for (const char* link : {"link", "link to link", "dangling"}) EXPECT_TRUE(fs::is_symlink(folder / link)) << link;
    EXPECT_EQ(files_in(folder), 4);

    fs::create_symlink("loop", folder / "loop");
    EXPECT_THROW(output_file(folder / "loop"), std::runtime_error);
}

TEST(OutputFile, TheModeStays) {
    const demo::temporary_folder folder;
    const auto old = folder.write("old", "old");
    for (const mode_t mode : {0600U, 0664U, 0751U}) {
        ASSERT_EQ(::chmod(old.c_str(), mode), 0);
        write(old, "new");
        struct stat status {};
        ASSERT_EQ(::stat(old.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777U, mode);
    }
    const mode_t mask = ::umask(027);
    write(folder / "new", "new");
    ::umask(mask);
    struct stat status {};
    ASSERT_EQ(::stat((folder / "new").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0640U);
}

TEST(OutputFile, APipeIsWrittenDirectly) {
    const demo::temporary_folder folder;
    const auto pipe = folder / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
    write(pipe, "through");
    std::string read(7, ' ');
    EXPECT_EQ(::read(reader, read.data(), read.size()), 7);
    ::close(reader);
    EXPECT_EQ(read, "through");
    EXPECT_TRUE(fs::is_fifo(pipe));
    EXPECT_EQ(files_in(folder), 1);
}

/// What the descriptor is open on is appended to, never replaced.
TEST(OutputFile, DescriptorsOfTheProgram) {
    const demo::temporary_folder folder;
    const auto path = folder.write("file", "before, ");
    const int file = ::open(path.c_str(), O_WRONLY | O_APPEND);
    ASSERT_GE(file, 0);
    write("/dev/fd/" + std::to_string(file), "behind");
    EXPECT_EQ(demo::content_of(path), "before, behind");
    EXPECT_EQ(files_in(folder), 1);
    ::close(file);
    EXPECT_THROW(output_file("/dev/fd/" + std::to_string(file)), std::runtime_error);  // closed
    const int input = ::open(path.c_str(), O_RDONLY);
    EXPECT_THROW(output_file("/dev/fd/" + std::to_string(input)), std::runtime_error);
    ::close(input);
}

/// A signal in the middle of commit(): the limit on file sizes makes the moment certain.
TEST(OutputFile, ASignalLeavesWhatWasThere) {
    const demo::temporary_folder folder;
    const auto path = folder.write("result.json", "old");
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        static volatile sig_atomic_t sent;
        sent = signal;
        const int status = status_of_child([&] {
            std::signal(signal, SIG_DFL);  // where tests run in the background, shells have it ignored
            demo::handle_signals();
            std::signal(SIGXFSZ, [](int) { ::raise(sent); });
            const rlimit limit{10, 10};
            ::setrlimit(RLIMIT_FSIZE, &limit);
            write(path, std::string(1000, 'x'));
        });
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
        EXPECT_EQ(demo::content_of(path), "old");
        EXPECT_EQ(files_in(folder), 1);
    }
}

TEST(OutputFile, AFileThatMayNotGrowIsAnError) {
    const demo::temporary_folder folder;
    const auto path = folder.write("result.json", "old");
    const int status = status_of_child([&] {
        demo::handle_signals();
        const rlimit limit{10, 10};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        write(path, std::string(1000, 'x'));
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 99) << status;  // it threw
    EXPECT_EQ(demo::content_of(path), "old");
    EXPECT_EQ(files_in(folder), 1);
}

TEST(OutputFile, AnIgnoredSignalStaysIgnored) {
    const int status = status_of_child([] {
        std::signal(SIGHUP, SIG_IGN);  // nohup
        demo::handle_signals();
        ::raise(SIGHUP);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(StandardDescriptors, AreTakenAndStillFail) {
    const int status = status_of_child([] {
        for (int i = 0; i < 3; ++i) ::close(i);
        demo::open_standard_descriptors();
        char c = 'x';
        const bool fail = ::read(0, &c, 1) < 0 && ::write(1, &c, 1) < 0 && ::write(2, &c, 1) < 0;
        const int next = ::open("/dev/null", O_RDONLY);
        if (!fail || next < 3) ::_exit(1);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(CheckFiles, TheSameFileByAnyNameIsRefused) {
    const demo::temporary_folder folder;
    const auto text = folder.write("text", "a");
    fs::create_directory(folder / "sub");
    fs::create_symlink("text", folder / "link");
    fs::create_symlink("absent", folder / "dangling");
    fs::create_hard_link(text, folder / "hard");
    const int file = ::open(text.c_str(), O_WRONLY);
    const auto refused = [](const fs::path& input, const std::vector<fs::path>& outputs) {
        std::vector<demo::named_file> named;
        for (const auto& path : outputs) named.push_back({"--out" + std::to_string(named.size()), path});
        try {
            demo::check_files({{"--in", input}}, named);
            return false;
        } catch (const std::invalid_argument& problem) {
            EXPECT_NE(std::string(problem.what()).find("--out"), std::string::npos) << problem.what();
            return true;
        }
    };
    const auto descriptor = fs::path("/dev/fd/" + std::to_string(file));
    for (const auto& path : {text, folder / "link", folder / "hard", folder / "sub/../text", descriptor}) {
        EXPECT_TRUE(refused(text, {path})) << path;
        EXPECT_TRUE(refused(path, {text})) << path;
        EXPECT_TRUE(refused("/dev/null", {text, path})) << path;
    }
    for (const auto& path : {folder / "absent", folder / "dangling", folder / "sub/../absent"}) {
        EXPECT_FALSE(refused(text, {path})) << path;
        EXPECT_TRUE(refused(text, {folder / "absent", path})) << path;
    }
    EXPECT_TRUE(refused(text, {"-", "/dev/stdout"}));
    EXPECT_FALSE(refused("/dev/null", {"/dev/null", "/dev/null"}));
    EXPECT_FALSE(refused(text, {folder / "a", folder / "b", folder / "sub/a"}));
    ::close(file);
}

}  // namespace output_file_test
