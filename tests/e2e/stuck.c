/* Hangs in the way that its first argument names. "ready" is written to standard output once it is about to. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;

static void *one(void *unused) {
    pthread_mutex_lock(&a);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&b);
    return unused;
}

static void *other(void *unused) {
    pthread_mutex_lock(&b);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&a);
    return unused;
}

static void ready(void) { (void)!write(1, "ready\n", 6); }

/* A child that does not outlive its parent. */
static pid_t child(void) {
    pid_t pid = fork();
    if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static void check(int result, const char *what) {
    if (result < 0) { perror(what); exit(1); }
}

int main(int argc, char **argv) {
    const char *how = argv[1], *path = argc > 2 ? argv[2] : "";
    int pipes[2];
    if (!strcmp(how, "deadlock")) {
        pthread_t threads[2];
        pthread_barrier_init(&both, NULL, 2);
        pthread_create(&threads[0], NULL, one, NULL);
        pthread_create(&threads[1], NULL, other, NULL);
        ready();
        pthread_join(threads[0], NULL);
    } else if (!strcmp(how, "flock")) {
        int held = open(path, O_RDWR | O_CREAT, 0600);
        check(held, path);
        check(flock(held, LOCK_EX), "flock");
        if (child() == 0) {
            int fd = open(path, O_RDWR);
            ready();
            flock(fd, LOCK_EX);
        }
        pause();
    } else if (!strcmp(how, "posix") || !strcmp(how, "ofd")) {
        int command = how[0] == 'p' ? F_SETLKW : F_OFD_SETLKW;
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int held = open(path, O_RDWR | O_CREAT, 0600);
        check(held, path);
        check(fcntl(held, command, &whole), "fcntl");
        if (child() == 0) {
            close(held);
            int fd = open(path, O_RDWR);
            ready();
            fcntl(fd, command, &whole);
        }
        pause();
    } else if (!strcmp(how, "fifo")) {
        check(mkfifo(path, 0600), path);
        if (child() == 0) {
            int fd = open(path, O_RDONLY);
            char byte;
            ready();
            (void)!read(fd, &byte, 1);
            exit(0);
        }
        check(open(path, O_WRONLY), path);
        pause();
    } else if (!strcmp(how, "fifo-open")) {
        check(mkfifo(path, 0600), path);
        ready();
        open(path, O_RDONLY);
    } else if (!strcmp(how, "pipe")) {
        static char bytes[1 << 20];
        check(pipe(pipes), "pipe");
        if (child() == 0) {
            close(pipes[0]);
            ready();
            (void)!write(pipes[1], bytes, sizeof bytes);
            exit(0);
        }
        close(pipes[1]);
        pause();
    } else if (!strcmp(how, "connect")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof to;
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        check(bind(listener, (struct sockaddr *)&to, sizeof to), "bind");
        check(listen(listener, 0), "listen");
        check(getsockname(listener, (struct sockaddr *)&to, &len), "getsockname");
        /* The second finds the queue full, as do all after it. */
        for (int i = 0; i < 2; i++) {
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            connect(fd, (struct sockaddr *)&to, sizeof to);
        }
        usleep(100000);
        ready();
        connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to);
    } else if (!strcmp(how, "tcp")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof to;
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        check(bind(listener, (struct sockaddr *)&to, sizeof to), "bind");
        check(listen(listener, 1), "listen");
        check(getsockname(listener, (struct sockaddr *)&to, &len), "getsockname");
        if (child() == 0) {
            close(listener);
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            char byte;
            check(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
            ready();
            recv(fd, &byte, 1, 0);
        }
        check(accept(listener, NULL, NULL), "accept");
        pause();
    } else if (!strcmp(how, "unix")) {
        char byte;
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, pipes), "socketpair");
        if (child() == 0) {
            close(pipes[0]);
            ready();
            recv(pipes[1], &byte, 1, 0);
        }
        close(pipes[1]);
        pause();
    } else if (!strcmp(how, "wait")) {
        if (child() == 0) pause();
        ready();
        waitpid(-1, NULL, 0);
    } else if (!strcmp(how, "sleep")) {
        struct timespec long_time = {1000, 5};
        ready();
        nanosleep(&long_time, NULL);
    }
    pause();
}
