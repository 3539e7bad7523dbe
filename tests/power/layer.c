/*
 * A disk that loses what was not synced. Preloaded (LD_PRELOAD) under a whole process, it keeps beside a data directory
 * an image of what a loss of power leaves of it. After a `kill -9` the harness (tests/compat/harness/power.rs) puts
 * the image in the place of the data directory.
 *
 *   POWER_DATA   the data directory, an absolute path without links
 *   POWER_IMAGE  where the image is kept, on the same file system:
 *     files/INODE  contents as of the last sync of the file
 *     dirs/INODE   entries as of the last sync of the directory: inode, kind (f, d) and name, one a line
 *     dead/        what was unlinked or renamed over: it may be in the image still, and its inode must stay its own
 *     ignore       while this exists, no sync does anything
 *
 * What is durable: the bytes of a file by fsync or fdatasync of it; the entries of a directory by fsync of that
 * directory; both by syncfs and sync. A rename from one directory to another is one step, as in the journal of a file
 * system: a sync of either directory takes both. sync_file_range makes nothing durable. What this layer does not see
 * (mmap, O_DSYNC, raw system calls) counts as not synced: so a gap in it shows as a loss and never hides one.
 * Real syncs are left out: the page cache outlives the process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EVERYTHING INT64_MAX

struct range {
	off_t from, to;
};

/* A regular file below the data directory that this process has written to. */
struct node {
	ino_t inode;
	int fd; /* our own, for reading */
	struct range *ranges; /* written since the last sync */
	size_t count, room;
	pthread_mutex_t syncing; /* a second sync waits for the first */
	struct node *next;
};

static char data[PATH_MAX], image[PATH_MAX / 2];
static int on;
static dev_t device; /* of both */
static struct node *nodes[1024];
static pthread_mutex_t nodes_lock = PTHREAD_MUTEX_INITIALIZER; /* the table and all ranges */
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER; /* names stand still while they are listed */
static int names_changed = 1;
static int *tied; /* directories between which something was renamed since the last sync of one of them */
static size_t tied_count;
static unsigned long dead_count;

static void die(const char *what)
{
	fprintf(stderr, "power layer: %s: %s\n", what, strerror(errno));
	abort();
}

#define REAL(name) \
	static __typeof__(&name) real; \
	if (!real) \
		real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_below_data(const char *path)
{
	size_t length = strlen(data);
	return on && strncmp(path, data, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int path_of_fd(int fd, char *out)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, out, PATH_MAX - 1);
	if (length < 0)
		return 0;
	out[length] = 0;
	return 1;
}

/* The absolute path; 0 if it is not below the data directory. */
static int path_at(int dir, const char *path, char *out)
{
	char base[PATH_MAX];
	if (!on)
		return 0;
	if (path[0] == '/')
		snprintf(out, PATH_MAX, "%s", path);
	else if (dir == AT_FDCWD || !path_of_fd(dir, base))
		return 0;
	else if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
		return 0;
	return is_below_data(out);
}

static int open_again(int fd, int flags)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	int own = (int)syscall(SYS_openat, AT_FDCWD, link, flags | O_CLOEXEC);
	if (own < 0)
		die(link);
	return own;
}

static void image_path(char *out, const char *kind, unsigned long long number)
{
	snprintf(out, PATH_MAX, "%s/%s/%llu", image, kind, number);
}

/* The node of a file of the data directory, made if it may be; nodes_lock is held. */
static struct node *node_of(int fd, int may_make)
{
	struct stat status;
	char path[PATH_MAX];
	if (!on || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_dev != device)
		return NULL;
	struct node **at = &nodes[status.st_ino % 1024];
	for (struct node *node = *at; node; node = node->next)
		if (node->inode == status.st_ino)
			return node;
	if (!may_make || !path_of_fd(fd, path) || !is_below_data(path))
		return NULL;
	struct node *node = calloc(1, sizeof *node);
	node->inode = status.st_ino;
	node->fd = open_again(fd, O_RDONLY);
	pthread_mutex_init(&node->syncing, NULL);
	node->next = *at;
	*at = node;
	return node;
}

/* To be called when the change is made: else a sync beside it would take the old bytes for the new ones. */
static void changed(int fd, off_t from, off_t to)
{
	int before = errno;
	pthread_mutex_lock(&nodes_lock);
	struct node *node = node_of(fd, 1);
	if (node && node->count && node->ranges[node->count - 1].to == from) {
		node->ranges[node->count - 1].to = to;
	} else if (node) {
		if (node->count == node->room) {
			node->room = node->room ? 2 * node->room : 8;
			node->ranges = realloc(node->ranges, node->room * sizeof(struct range));
		}
		node->ranges[node->count++] = (struct range){from, to};
	}
	pthread_mutex_unlock(&nodes_lock);
	errno = before;
}

static void copy(int from, int to, struct range range)
{
	char buffer[1 << 16];
	while (range.from < range.to) {
		off_t left = range.to - range.from;
		size_t most = left < (off_t)sizeof buffer ? (size_t)left : sizeof buffer;
		ssize_t got = pread(from, buffer, most, range.from);
		if (got < 0)
			die("read");
		if (got == 0)
			return;
		if (syscall(SYS_pwrite64, to, buffer, (size_t)got, range.from) != got)
			die("write the image");
		range.from += got;
	}
}

static void sync_node(struct node *node)
{
	char path[PATH_MAX];
	struct stat status, before;
	pthread_mutex_lock(&node->syncing);
	pthread_mutex_lock(&nodes_lock);
	if (fstat(node->fd, &status) != 0)
		die("status");
	struct range *ranges = node->ranges;
	size_t count = node->count;
	node->ranges = NULL;
	node->count = node->room = 0;
	pthread_mutex_unlock(&nodes_lock);
	image_path(path, "files", node->inode);
	int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (to < 0)
		die(path);
	if (fstat(to, &before) != 0)
		die("status of the image");
	for (size_t i = 0; i < count; i++)
		copy(node->fd, to, ranges[i]);
	/* The end may belong to a write that has not told of it yet: no hole is left there. */
	copy(node->fd, to, (struct range){before.st_size, status.st_size});
	if (syscall(SYS_ftruncate, to, status.st_size) != 0)
		die("size of the image");
	close(to);
	free(ranges);
	pthread_mutex_unlock(&node->syncing);
}

/* Notes the entries of a directory; names_lock is held. */
static void sync_names(int fd)
{
	char path[PATH_MAX], draft[PATH_MAX + 8];
	struct stat status, entry_status;
	struct dirent *entry;
	DIR *dir = fdopendir(open_again(fd, O_RDONLY | O_DIRECTORY));
	if (!dir || fstat(fd, &status) != 0)
		die("list");
	image_path(path, "dirs", status.st_ino);
	snprintf(draft, sizeof draft, "%s.new", path);
	FILE *out = fopen(draft, "we");
	if (!out)
		die(draft);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &entry_status, AT_SYMLINK_NOFOLLOW) != 0)
			continue; /* another process's, gone meanwhile */
		char kind = S_ISDIR(entry_status.st_mode) ? 'd' : 'f';
		fprintf(out, "%llu %c %s\n", (unsigned long long)entry_status.st_ino, kind, entry->d_name);
	}
	if (fclose(out) != 0 || syscall(SYS_rename, draft, path) != 0)
		die(path);
	closedir(dir);
}

static void sync_directory(int fd)
{
	struct stat status, other;
	int is_tied = 0;
	if (fstat(fd, &status) != 0)
		die("directory");
	pthread_mutex_lock(&names_lock);
	sync_names(fd);
	for (size_t i = 0; i < tied_count; i++)
		is_tied |= fstat(tied[i], &other) == 0 && other.st_ino == status.st_ino;
	for (size_t i = 0; is_tied && i < tied_count; i++) {
		sync_names(tied[i]);
		close(tied[i]);
	}
	tied_count = is_tied ? 0 : tied_count;
	pthread_mutex_unlock(&names_lock);
}

/* Calls with each directory (kind d) and file (kind f) below a path, itself included. */
static void walk(const char *path, void (*visit)(int fd, char kind))
{
	char below[PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir(path);
	if (!dir)
		return;
	visit(dirfd(dir), 'd');
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (snprintf(below, sizeof below, "%s/%s", path, entry->d_name) >= (int)sizeof below)
			die("a long path");
		int fd = (int)syscall(SYS_openat, AT_FDCWD, below, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		struct stat status;
		if (fd < 0)
			continue;
		if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
			visit(fd, 'f');
		close(fd);
		if (S_ISDIR(status.st_mode))
			walk(below, visit);
	}
	closedir(dir);
}

static void sync_if_directory(int fd, char kind)
{
	if (kind == 'd')
		sync_names(fd);
}

static void sync_everything(void)
{
	for (size_t i = 0; i < 1024; i++) {
		pthread_mutex_lock(&nodes_lock);
		struct node *node = nodes[i];
		pthread_mutex_unlock(&nodes_lock);
		for (; node; node = node->next) {
			pthread_mutex_lock(&nodes_lock);
			int is_dirty = node->count > 0;
			pthread_mutex_unlock(&nodes_lock);
			/* Not dirty: a sync of it may be under way, which is waited for. */
			if (!is_dirty) {
				pthread_mutex_lock(&node->syncing);
				pthread_mutex_unlock(&node->syncing);
			} else {
				sync_node(node);
			}
		}
	}
	pthread_mutex_lock(&names_lock);
	if (names_changed) {
		names_changed = 0;
		walk(data, sync_if_directory);
	}
	while (tied_count)
		close(tied[--tied_count]);
	pthread_mutex_unlock(&names_lock);
}

/* What the process before this one has left in the page cache only is still to be synced. */
static void compare_with_image(int fd, char kind)
{
	char path[PATH_MAX], here[1 << 14], there[1 << 14];
	struct stat status;
	if (kind != 'f' || fstat(fd, &status) != 0)
		return;
	image_path(path, "files", status.st_ino);
	int of_image = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	ssize_t got = 1, of_there = 1;
	for (off_t at = 0; of_image >= 0 && got > 0; at += got) {
		got = pread(fd, here, sizeof here, at);
		of_there = pread(of_image, there, sizeof there, at);
		if (got != of_there || memcmp(here, there, (size_t)got) != 0)
			break;
	}
	if (of_image < 0 || got != 0 || of_there != 0)
		changed(fd, 0, EVERYTHING);
	if (of_image >= 0)
		close(of_image);
}

__attribute__((constructor)) static void begin(void)
{
	const char *data_path = getenv("POWER_DATA"), *path_of_image = getenv("POWER_IMAGE");
	char path[PATH_MAX];
	if (!data_path || !path_of_image)
		return;
	snprintf(data, sizeof data, "%s", data_path);
	snprintf(image, sizeof image, "%s", path_of_image);
	struct stat status;
	int is_new = mkdir(image, 0700) == 0;
	if (stat(image, &status) != 0)
		die(image);
	device = status.st_dev;
	on = 1;
	for (const char **kind = (const char *[]){"files", "dirs", "dead", NULL}; *kind; kind++) {
		snprintf(path, sizeof path, "%s/%s", image, *kind);
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			die(path);
	}
	walk(data, compare_with_image);
	/* What is there at first is durable. */
	if (is_new)
		sync_everything();
}

static int is_ignored(void)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/ignore", image);
	return access(path, F_OK) == 0;
}

int fsync(int fd)
{
	struct stat status;
	REAL(fsync);
	char path[PATH_MAX];
	if (!on || !path_of_fd(fd, path) || fstat(fd, &status) != 0)
		return real(fd);
	if (is_ignored())
		return 0;
	if (S_ISDIR(status.st_mode) && is_below_data(path)) {
		sync_directory(fd);
		return 0;
	}
	pthread_mutex_lock(&nodes_lock);
	struct node *node = node_of(fd, 0);
	pthread_mutex_unlock(&nodes_lock);
	if (node)
		sync_node(node);
	return 0;
}

int fdatasync(int fd)
{
	return fsync(fd);
}

int syncfs(int fd)
{
	REAL(syncfs);
	if (!on)
		return real(fd);
	if (!is_ignored())
		sync_everything();
	return 0;
}

void sync(void)
{
	syncfs(-1);
}

static void was_opened(int fd, int flags)
{
	if (fd < 0 || !on)
		return;
	if (flags & O_CREAT) {
		pthread_mutex_lock(&names_lock);
		names_changed = 1;
		pthread_mutex_unlock(&names_lock);
	}
	if (flags & O_TRUNC)
		changed(fd, 0, EVERYTHING);
}

#define MODE(last) \
	mode_t mode = 0; \
	va_list more; \
	va_start(more, last); \
	if (flags & (O_CREAT | O_TMPFILE)) \
		mode = va_arg(more, mode_t); \
	va_end(more)

int open(const char *path, int flags, ...)
{
	MODE(flags);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	was_opened(fd, flags);
	return fd;
}

int openat(int dir, const char *path, int flags, ...)
{
	MODE(flags);
	int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
	was_opened(fd, flags);
	return fd;
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));

static ssize_t was_written_here(int fd, ssize_t written)
{
	off_t end;
	if (written > 0 && on && (end = lseek(fd, 0, SEEK_CUR)) >= 0)
		changed(fd, end - written, end);
	return written;
}

static ssize_t was_written(int fd, ssize_t written, off_t at)
{
	if (written > 0)
		changed(fd, at, at + written);
	return written;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	REAL(write);
	return was_written_here(fd, real(fd, bytes, length));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	REAL(writev);
	return was_written_here(fd, real(fd, parts, count));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
	REAL(pwrite);
	return was_written(fd, real(fd, bytes, length, at), at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
	REAL(pwritev);
	return was_written(fd, real(fd, parts, count, at), at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) __attribute__((alias("pwritev")));

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags)
{
	REAL(copy_file_range);
	off_t at = out_at ? *out_at : lseek(out, 0, SEEK_CUR);
	return was_written(out, real(in, in_at, out, out_at, length, flags), at);
}

int ftruncate(int fd, off_t size)
{
	REAL(ftruncate);
	int done = real(fd, size);
	if (done == 0)
		changed(fd, size, EVERYTHING);
	return done;
}

int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));

int fallocate(int fd, int mode, off_t from, off_t length)
{
	REAL(fallocate);
	int done = real(fd, mode, from, length);
	if (done == 0 && mode != FALLOC_FL_KEEP_SIZE)
		changed(fd, 0, EVERYTHING);
	return done;
}

int fallocate64(int fd, int mode, off_t from, off_t length) __attribute__((alias("fallocate")));

static void dead_path(char *out)
{
	char kind[32];
	snprintf(kind, sizeof kind, "dead/%d", getpid());
	image_path(out, kind, ++dead_count);
	*strrchr(out, '/') = '-';
}

static void tie(char *path)
{
	*strrchr(path, '/') = 0;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	tied = realloc(tied, (tied_count + 1) * sizeof *tied);
	tied[tied_count++] = fd;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	char here[PATH_MAX], there[PATH_MAX], dead[PATH_MAX];
	struct stat status;
	int is_ours = path_at(from_dir, from, here) && path_at(to_dir, to, there);
	pthread_mutex_lock(&names_lock);
	names_changed = 1;
	if (is_ours && lstat(there, &status) == 0 && S_ISREG(status.st_mode)) {
		dead_path(dead);
		if (link(there, dead) != 0)
			die(there);
	}
	int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
	int error = errno;
	if (is_ours && done == 0) {
		size_t parent = (size_t)(strrchr(here, '/') - here);
		if (parent != (size_t)(strrchr(there, '/') - there) || strncmp(here, there, parent) != 0) {
			tie(here);
			tie(there);
		}
	}
	pthread_mutex_unlock(&names_lock);
	errno = error;
	return done;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int is_empty(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count <= 2;
}

int unlinkat(int dir, const char *name, int flags)
{
	char path[PATH_MAX], dead[PATH_MAX];
	struct stat status;
	int done;
	pthread_mutex_lock(&names_lock);
	names_changed = 1;
	if (path_at(dir, name, path) && lstat(path, &status) == 0 && !S_ISDIR(status.st_mode) == !(flags & AT_REMOVEDIR)) {
		dead_path(dead);
		done = -1;
		errno = ENOTEMPTY;
		if (!S_ISDIR(status.st_mode) || is_empty(path))
			done = (int)syscall(SYS_rename, path, dead);
	} else {
		done = (int)syscall(SYS_unlinkat, dir, name, flags);
	}
	int error = errno;
	pthread_mutex_unlock(&names_lock);
	errno = error;
	return done;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	pthread_mutex_lock(&names_lock);
	names_changed = 1;
	int done = (int)syscall(SYS_mkdirat, dir, path, mode);
	pthread_mutex_unlock(&names_lock);
	return done;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}
