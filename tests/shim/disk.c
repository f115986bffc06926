/* A disk that misbehaves, for fault tests: loaded into a server with LD_PRELOAD, it stands between the server
 * and the files below DISK_DATA.
 *
 * Until a file is synced, what each write replaces is kept in DISK_UNDO/<inode>. After a SIGKILL the test puts
 * it back, and the files are as a power cut would have left them: synced bytes are there, others may not be.
 * Creations and renames are kept, as a file system with a journal keeps them; the bytes in such files are not.
 *
 * A file DISK_UNDO/fail makes the next sync fail with EIO, once, of a file whose path has what it says. What it should have synced is not written by any
 * later sync, as the kernel takes it for written: it moves to DISK_UNDO/<inode>.lost and stays there until the
 * same bytes are written once more and synced. A file DISK_UNDO/slow makes each sync take as
 * many milliseconds as it says. Writes through a memory map are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Writes and their undo are one step, and so are a sync and the forgetting of the undo. */
static pthread_mutex_t step = PTHREAD_MUTEX_INITIALIZER;

static const char *undo_folder(void) {
    static const char *folder;
    return folder ? folder : (folder = getenv("DISK_UNDO"));
}

static int is_ours(const char *path) {
    const char *data = getenv("DISK_DATA");
    return data && undo_folder() && strncmp(path, data, strlen(data)) == 0;
}

/* The inode of a regular file below the data folder; 0 for everything else. */
static ino_t inode_of(int fd, struct stat *stat) {
    char link[64], path[4096];
    if (!undo_folder() || fstat(fd, stat) != 0 || !S_ISREG(stat->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_ours(path) ? stat->st_ino : 0;
}

static void undo_path(char *path, size_t size, ino_t inode) {
    snprintf(path, size, "%s/%llu", undo_folder(), (unsigned long long)inode);
}

static ssize_t plain_write(int fd, const void *bytes, size_t count) {
    REAL(write);
    return real(fd, bytes, count);
}

/* Keeps what `count` bytes at `offset` are, and how long the file is. */
static void keep(int fd, const struct stat *stat, off_t offset, size_t count) {
    uint64_t size = (uint64_t)stat->st_size, at = (uint64_t)offset;
    uint64_t there = at >= size ? 0 : (size - at < count ? size - at : count);
    uint64_t head[4] = {at, there, size, count};
    char *record = malloc(sizeof head + there), path[4096];
    if (!record) abort();
    memcpy(record, head, sizeof head);
    ssize_t got = there ? pread(fd, record + sizeof head, there, offset) : 0;
    if (got < 0 && errno == EBADF) {
        /* It is open for writing only. */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int again = open(link, O_RDONLY);
        got = again < 0 ? -1 : pread(again, record + sizeof head, there, offset);
        if (again >= 0) close(again);
    }
    if (got != (ssize_t)there) abort();
    undo_path(path, sizeof path, stat->st_ino);
    int undo = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (undo < 0 || plain_write(undo, record, sizeof head + there) != (ssize_t)(sizeof head + there)) abort();
    close(undo);
    free(record);
}

static void lost_path(char *path, size_t size, ino_t inode) {
    snprintf(path, size, "%s/%llu.lost", undo_folder(), (unsigned long long)inode);
}

/* All of a small file; NULL when there is none or nothing in it. */
static char *whole(const char *path, size_t *length) {
    struct stat stat;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return NULL;
    char *bytes = NULL;
    if (fstat(fd, &stat) == 0 && stat.st_size > 0 && (bytes = malloc((size_t)stat.st_size))) {
        if (pread(fd, bytes, (size_t)stat.st_size, 0) != stat.st_size) abort();
        *length = (size_t)stat.st_size;
    }
    close(fd);
    return bytes;
}

static size_t record_length(const uint64_t *head) {
    return sizeof(uint64_t[4]) + head[1];
}

/* Whether one of the records covers all of these bytes. */
static int is_covered(const char *records, size_t length, uint64_t at, uint64_t count) {
    for (size_t next = 0; next + sizeof(uint64_t[4]) <= length;) {
        uint64_t head[4];
        memcpy(head, records + next, sizeof head);
        if (head[0] <= at && at + count <= head[0] + head[3]) return 1;
        next += record_length(head);
    }
    return 0;
}

/* What was written since is on the disk; of what a failed sync lost, that which was written once more. */
static void forget(ino_t inode) {
    char undo[4096], path[4096];
    undo_path(undo, sizeof undo, inode);
    lost_path(path, sizeof path, inode);
    size_t lost_length = 0, length = 0;
    char *lost = whole(path, &lost_length);
    if (lost) {
        char *records = whole(undo, &length);
        int left = open(path, O_WRONLY | O_TRUNC);
        if (left < 0) abort();
        for (size_t next = 0; next + sizeof(uint64_t[4]) <= lost_length;) {
            uint64_t head[4];
            memcpy(head, lost + next, sizeof head);
            size_t size = record_length(head);
            if (!records || !is_covered(records, length, head[0], head[3]))
                if (plain_write(left, lost + next, size) != (ssize_t)size) abort();
            next += size;
        }
        close(left);
        free(records);
        free(lost);
    }
    truncate(undo, 0);
}

/* A sync has failed: no later one writes what this one should have. */
static void lose(ino_t inode) {
    char undo[4096], path[4096];
    undo_path(undo, sizeof undo, inode);
    lost_path(path, sizeof path, inode);
    size_t length = 0;
    char *records = whole(undo, &length);
    if (!records) return;
    int lost = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (lost < 0 || plain_write(lost, records, length) != (ssize_t)length) abort();
    close(lost);
    free(records);
    truncate(undo, 0);
}

static off_t place(int fd, const struct stat *stat) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_APPEND) ? stat->st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat stat;
    if (!inode_of(fd, &stat)) return plain_write(fd, bytes, count);
    pthread_mutex_lock(&step);
    fstat(fd, &stat);
    keep(fd, &stat, place(fd, &stat), count);
    ssize_t written = plain_write(fd, bytes, count);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    struct stat stat;
    if (!inode_of(fd, &stat)) return real(fd, parts, count);
    size_t all = 0;
    for (int n = 0; n < count; n++) all += parts[n].iov_len;
    pthread_mutex_lock(&step);
    fstat(fd, &stat);
    keep(fd, &stat, place(fd, &stat), all);
    ssize_t written = real(fd, parts, count);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    struct stat stat;
    if (!inode_of(fd, &stat)) return real(fd, bytes, count, offset);
    pthread_mutex_lock(&step);
    fstat(fd, &stat);
    keep(fd, &stat, offset, count);
    ssize_t written = real(fd, bytes, count, offset);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite64(fd, bytes, count, offset);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    struct stat stat;
    if (!inode_of(fd, &stat)) return real(fd, size);
    pthread_mutex_lock(&step);
    fstat(fd, &stat);
    keep(fd, &stat, size, size < stat.st_size ? (size_t)(stat.st_size - size) : 0);
    int result = real(fd, size);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t size) {
    return ftruncate64(fd, size);
}

/* What the test asked for; called before a sync. */
static int asked_to_fail(int fd) {
    char path[4096], link[64], file[4096], part[4096];
    snprintf(path, sizeof path, "%s/slow", undo_folder());
    FILE *slow = fopen(path, "r");
    if (slow) {
        unsigned milliseconds = 0;
        if (fscanf(slow, "%u", &milliseconds) == 1) usleep(milliseconds * 1000);
        fclose(slow);
    }
    snprintf(path, sizeof path, "%s/fail", undo_folder());
    FILE *fail = fopen(path, "r");
    if (!fail) return 0;
    size_t said = fread(part, 1, sizeof part - 1, fail);
    part[said] = 0;
    fclose(fail);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, file, sizeof file - 1);
    file[length < 0 ? 0 : length] = 0;
    return strstr(file, part) && remove(path) == 0;
}

static int synced(int fd, int (*real)(int)) {
    struct stat stat;
    ino_t inode = inode_of(fd, &stat);
    if (!inode) return real(fd);
    if (asked_to_fail(fd)) {
        pthread_mutex_lock(&step);
        lose(inode);
        pthread_mutex_unlock(&step);
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&step);
    int result = real(fd);
    int error = errno;
    if (result == 0) forget(inode);
    pthread_mutex_unlock(&step);
    errno = error;
    return result;
}

int fsync(int fd) {
    REAL(fsync);
    return synced(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return synced(fd, real);
}

/* The inode may come back as another file. */
static void forget_path(const char *path) {
    struct stat stat;
    if (undo_folder() && lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_nlink == 1) {
        char lost[4096];
        lost_path(lost, sizeof lost, stat.st_ino);
        truncate(lost, 0);
        forget(stat.st_ino);
    }
}

int unlink(const char *path) {
    REAL(unlink);
    pthread_mutex_lock(&step);
    if (is_ours(path)) forget_path(path);
    int result = real(path);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return result;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    pthread_mutex_lock(&step);
    if (is_ours(to)) forget_path(to);
    int result = real(from, to);
    int error = errno;
    pthread_mutex_unlock(&step);
    errno = error;
    return result;
}
