/* The fault layer: a shared library that is preloaded into the real program and makes the files below one
 * directory fail on demand, or forget at a power cut what was never synced.
 *
 * FAULT_DIR      directory (absolute) whose files are concerned
 * FAULT_CONTROL  file of 512 bytes, mapped by both sides:
 *                [0] 'F'  the disk is full: writes, growth and new files give ENOSPC
 *                [1] '1'  the next write gives EIO, once
 *                [2] '1'  the next fsync or fdatasync gives EIO, once
 *                [3] 'H'  open hangs until another letter stands here
 *                [4] 'M'  open gives EMFILE
 *                [8]      counts syncs that were done (u32), so that a test sees the layer at work
 *                [64..]   text that a path must contain to be concerned; empty: every path below the directory
 * FAULT_UNDO     a new file: every change is logged with what it replaced, every sync is noted. After a kill the
 *                harness takes back what was not synced. sync_file_range is passed on and counts for nothing.
 *
 * Record of the undo log, little endian: kind u8, path lengths u16 u16, inode u64, offset u64, old size u64,
 * old bytes u32, new bytes u32; then the two paths, the old bytes, the new bytes.
 * Kinds: w data, t truncation, s file synced, d directory synced, c created, m directory made, r renamed, u removed.
 * A file that a rename or removal takes away is kept as a hard link FAULT_UNDO.<number>; its number is in `offset`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[PATH_MAX];
static size_t dir_len;
static volatile char *control;
static char undo_path[PATH_MAX];
static int undo = -1;
static uint64_t saved;
static char *names[MAX_FD]; /* paths of open descriptors that are concerned */

static int real_openat(int at, const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, at, path, flags, mode);
}

__attribute__((constructor)) static void start(void) {
    const char *d = getenv("FAULT_DIR"), *c = getenv("FAULT_CONTROL"), *u = getenv("FAULT_UNDO");
    if (!d) return;
    snprintf(dir, sizeof dir, "%s", d);
    dir_len = strlen(dir);
    if (c) {
        int fd = real_openat(AT_FDCWD, c, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *m = mmap(NULL, 512, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (m != MAP_FAILED) control = m;
            syscall(SYS_close, fd);
        }
    }
    if (u) {
        snprintf(undo_path, sizeof undo_path, "%s", u);
        undo = real_openat(AT_FDCWD, u, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
}

/* Absolute path of `path` seen from `at`, if it is below the directory. */
static int concerned(int at, const char *path, char *out) {
    if (!dir_len || !path) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else if (at == AT_FDCWD) {
        char cwd[PATH_MAX];
        if (!getcwd(cwd, sizeof cwd)) return 0;
        if (snprintf(out, PATH_MAX, "%s/%s", cwd, path) >= PATH_MAX) return 0;
    } else {
        if (at < 0 || at >= MAX_FD || !names[at]) return 0;
        if (snprintf(out, PATH_MAX, "%s/%s", names[at], path) >= PATH_MAX) return 0;
    }
    return strncmp(out, dir, dir_len) == 0 && (out[dir_len] == '/' || out[dir_len] == 0);
}

static int chosen(const char *path) {
    if (!control) return 0;
    const char *part = (const char *)control + 64;
    return !*part || strstr(path, part) != NULL;
}

static int full(const char *path) { return control && control[0] == 'F' && chosen(path); }

static int once(int at, const char *path) {
    if (!control || control[at] != '1' || !chosen(path)) return 0;
    control[at] = '0';
    return 1;
}

static void note(char kind, const char *a, const char *b, uint64_t ino, uint64_t off, uint64_t size,
                 const void *old, uint32_t old_len, const void *new, uint32_t new_len) {
    if (undo < 0) return;
    unsigned char h[37];
    uint16_t la = a ? strlen(a) : 0, lb = b ? strlen(b) : 0;
    h[0] = kind;
    memcpy(h + 1, &la, 2);
    memcpy(h + 3, &lb, 2);
    memcpy(h + 5, &ino, 8);
    memcpy(h + 13, &off, 8);
    memcpy(h + 21, &size, 8);
    memcpy(h + 29, &old_len, 4);
    memcpy(h + 33, &new_len, 4);
    struct iovec v[5] = {{h, 37}, {(void *)a, la}, {(void *)b, lb}, {(void *)old, old_len}, {(void *)new, new_len}};
    size_t want = 37 + la + lb + (size_t)old_len + new_len;
    long wrote = syscall(SYS_writev, undo, v, 5);
    if (wrote < 0 || (size_t)wrote != want) _exit(97); /* a hole in the log would make the experiment void */
}

static uint64_t inode(int fd, uint64_t *size) {
    struct stat st;
    if (fstat(fd, &st)) return 0;
    *size = st.st_size;
    return st.st_ino;
}

/* The bytes that a write at `off` replaces. */
static void note_write(int fd, const char *path, const void *buf, size_t n, uint64_t off) {
    if (undo < 0) return;
    uint64_t size = 0, ino = inode(fd, &size);
    char *old = NULL;
    uint32_t got = 0;
    if (off < size) {
        size_t want = off + n < size ? n : size - off;
        old = malloc(want ? want : 1);
        /* The descriptor may be write-only: read through another one. */
        int rd = real_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        while (old && rd >= 0 && got < want) {
            long r = syscall(SYS_pread64, rd, old + got, want - got, off + got);
            if (r <= 0) break;
            got += r;
        }
        if (rd >= 0) syscall(SYS_close, rd);
    }
    note('w', path, NULL, ino, off, size, old, got, buf, n);
    free(old);
}

static const char *name_of(int fd) { return fd >= 0 && fd < MAX_FD ? names[fd] : NULL; }

static void name_fd(int fd, const char *path) {
    if (fd < 0 || fd >= MAX_FD) return;
    free(names[fd]);
    names[fd] = path ? strdup(path) : NULL;
}

static uint64_t keep(const char *path) {
    if (undo < 0) return 0;
    struct stat st;
    if (lstat(path, &st) || !S_ISREG(st.st_mode)) return 0;
    char to[PATH_MAX + 32];
    snprintf(to, sizeof to, "%s.%llu", undo_path, (unsigned long long)++saved);
    return syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, to, 0) == 0 ? saved : 0;
}

static int do_open(int at, const char *path, int flags, mode_t mode) {
    char abs[PATH_MAX];
    if (!concerned(at, path, abs)) {
        int fd = real_openat(at, path, flags, mode);
        if (fd >= 0 && fd < MAX_FD && names[fd]) {
            pthread_mutex_lock(&lock);
            name_fd(fd, NULL);
            pthread_mutex_unlock(&lock);
        }
        return fd;
    }
    while (control && control[3] == 'H' && chosen(abs)) {
        struct timespec t = {0, 5000000};
        nanosleep(&t, NULL);
    }
    if (control && control[4] == 'M' && chosen(abs)) {
        errno = EMFILE;
        return -1;
    }
    pthread_mutex_lock(&lock);
    struct stat st;
    int makes = (flags & O_CREAT) && stat(abs, &st) != 0;
    if (makes && full(abs)) {
        pthread_mutex_unlock(&lock);
        errno = ENOSPC;
        return -1;
    }
    if ((flags & O_TRUNC) && !makes && undo >= 0 && stat(abs, &st) == 0 && st.st_size > 0) {
        /* As a truncation: the old bytes go into the log. */
        char *old = malloc(st.st_size);
        int rd = real_openat(AT_FDCWD, abs, O_RDONLY | O_CLOEXEC, 0);
        long got = rd >= 0 && old ? syscall(SYS_pread64, rd, old, st.st_size, 0) : 0;
        if (rd >= 0) syscall(SYS_close, rd);
        note('t', abs, NULL, st.st_ino, 0, st.st_size, old, got > 0 ? got : 0, NULL, 0);
        free(old);
    }
    if (makes) note('c', abs, NULL, 0, 0, 0, NULL, 0, NULL, 0);
    int fd = real_openat(at, path, flags, mode);
    if (fd >= 0) name_fd(fd, abs);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, last)                                  \
    mode_t mode = 0;                                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                 \
        va_list list;                                      \
        va_start(list, last);                              \
        mode = va_arg(list, mode_t);                       \
        va_end(list);                                      \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return do_open(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return do_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return do_open(at, path, flags, mode); }

int close(int fd) {
    if (name_of(fd)) {
        pthread_mutex_lock(&lock);
        name_fd(fd, NULL);
        pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_close, fd);
}

static ssize_t do_pwrite(int fd, const char *path, const void *buf, size_t n, off64_t off) {
    pthread_mutex_lock(&lock);
    long r = -1;
    if (full(path)) errno = ENOSPC;
    else if (once(1, path)) errno = EIO;
    else {
        note_write(fd, path, buf, n, off);
        r = syscall(SYS_pwrite64, fd, buf, n, off);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off) {
    const char *path = name_of(fd);
    return path ? do_pwrite(fd, path, buf, n, off) : syscall(SYS_pwrite64, fd, buf, n, off);
}
ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off) {
    const char *path = name_of(fd);
    return path ? do_pwrite(fd, path, buf, n, off) : syscall(SYS_pwrite64, fd, buf, n, off);
}

ssize_t write(int fd, const void *buf, size_t n) {
    const char *path = name_of(fd);
    if (!path) return syscall(SYS_write, fd, buf, n);
    pthread_mutex_lock(&lock);
    long r = -1;
    if (full(path)) errno = ENOSPC;
    else if (once(1, path)) errno = EIO;
    else {
        uint64_t size = 0, ino = inode(fd, &size);
        (void)ino;
        int append = (int)syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND;
        note_write(fd, path, buf, n, append ? size : (uint64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR));
        r = syscall(SYS_write, fd, buf, n);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

ssize_t writev(int fd, const struct iovec *v, int n) {
    if (!name_of(fd)) return syscall(SYS_writev, fd, v, n);
    ssize_t all = 0;
    for (int i = 0; i < n; i++) {
        if (!v[i].iov_len) continue;
        ssize_t r = write(fd, v[i].iov_base, v[i].iov_len);
        if (r < 0) return all ? all : r;
        all += r;
        if ((size_t)r < v[i].iov_len) break;
    }
    return all;
}

static int do_truncate(int fd, off64_t len) {
    const char *path = name_of(fd);
    if (!path) return (int)syscall(SYS_ftruncate, fd, len);
    pthread_mutex_lock(&lock);
    uint64_t size = 0, ino = inode(fd, &size);
    int r = -1;
    if (full(path) && (uint64_t)len > size) errno = ENOSPC;
    else {
        char *old = NULL;
        long got = 0;
        if (undo >= 0 && (uint64_t)len < size && (old = malloc(size - len))) {
            int rd = real_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
            if (rd >= 0) {
                got = syscall(SYS_pread64, rd, old, size - len, len);
                syscall(SYS_close, rd);
            }
        }
        note('t', path, NULL, ino, len, size, old, got > 0 ? got : 0, NULL, 0);
        free(old);
        r = (int)syscall(SYS_ftruncate, fd, len);
    }
    pthread_mutex_unlock(&lock);
    return r;
}
int ftruncate(int fd, off_t len) { return do_truncate(fd, len); }
int ftruncate64(int fd, off64_t len) { return do_truncate(fd, len); }

static int do_sync(int fd, long call) {
    const char *path = name_of(fd);
    if (!path) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    int r = -1;
    if (once(2, path)) errno = EIO;
    else {
        r = (int)syscall(call, fd);
        if (r == 0) {
            uint64_t size = 0, ino = inode(fd, &size);
            struct stat st;
            int is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
            note(is_dir ? 'd' : 's', path, NULL, ino, 0, 0, NULL, 0, NULL, 0);
            if (control) __sync_fetch_and_add((uint32_t *)(control + 8), 1);
        }
    }
    pthread_mutex_unlock(&lock);
    return r;
}
int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

int mkdir(const char *path, mode_t mode) {
    char abs[PATH_MAX];
    if (!concerned(AT_FDCWD, path, abs)) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    int r = -1;
    if (full(abs)) errno = ENOSPC;
    else {
        r = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
        if (r == 0) note('m', abs, NULL, 0, 0, 0, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

int rename(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!concerned(AT_FDCWD, from, a) || !concerned(AT_FDCWD, to, b))
        return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    pthread_mutex_lock(&lock);
    uint64_t kept = keep(b);
    note('r', a, b, 0, kept, 0, NULL, 0, NULL, 0);
    int r = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    pthread_mutex_unlock(&lock);
    return r;
}

static int do_unlink(int at, const char *path, int flags) {
    char abs[PATH_MAX];
    if (!concerned(at, path, abs)) return (int)syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_lock(&lock);
    uint64_t kept = keep(abs);
    if (kept) note('u', abs, NULL, 0, kept, 0, NULL, 0, NULL, 0);
    int r = (int)syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_unlock(&lock);
    return r;
}
int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return do_unlink(at, path, flags); }
