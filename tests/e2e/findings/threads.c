/* Incidents of locks and filters, and their healthy twins: `threads NAME MODE [FILE]`; MODE is `bad` or `well`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static int bad;

static void *teller(void *arg)
{
	prctl(PR_SET_NAME, "teller");
	for (int i = 0; i < 40; i++) {
		pthread_mutex_lock(&a);
		if (bad)
			usleep(10000);
		pthread_mutex_unlock(&a);
		usleep(bad ? 100 : 10000);
	}
	return arg;
}

static void *transfer(void *arg)
{
	pthread_mutex_t *first = arg ? &a : &b, *second = arg ? &b : &a;

	prctl(PR_SET_NAME, arg ? "transfer-1" : "transfer-2");
	if (!bad) {
		first = &a;
		second = &b;
	}
	pthread_mutex_lock(first);
	usleep(200000);
	pthread_mutex_lock(second);
	pthread_mutex_unlock(second);
	pthread_mutex_unlock(first);
	return NULL;
}

/* A filter that does this to mkdir. */
static void filter(unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	const char *name = argv[1], *file = argc > 3 ? argv[3] : "";
	pthread_t threads[4];
	int pipes[2];
	char byte[4096] = { 0 };

	bad = !strcmp(argv[2], "bad");
	if (!strcmp(name, "convoy")) {
		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, teller, NULL);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	} else if (!strcmp(name, "deadlock")) {
		for (long i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, transfer, (void *)i);
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	} else if (!strcmp(name, "filter-refuses") || !strcmp(name, "filter-kills")) {
		unsigned kill = !strcmp(name, "filter-kills");
		if (bad)
			filter(kill ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM);
		for (int i = 0; i < 10; i++) {
			syscall(SYS_mkdir, file, 0700);
			rmdir(file);
			usleep(5000);
		}
	} else if (!strcmp(name, "hang-flock")) {
		int fd = open(file, O_RDWR | O_CREAT, 0600);
		flock(fd, LOCK_EX);
	} else if (!strcmp(name, "hang-pipe")) {
		if (pipe(pipes))
			return 1;
		for (int i = 0; i < (bad ? 20 : 2); i++)
			if (write(pipes[1], byte, sizeof(byte)) < 0)
				return 1;
	} else if (!strcmp(name, "hang-fifo")) {
		if (bad)
			close(open(file, O_RDONLY));
	} else {
		return 2;
	}
	return 0;
}
