// Locks that the word of a futex does not tell, and workers that wait for work: handed rwlock|pool bad|well.
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 6, ROUNDS = 40, HELD_US = 5000 };

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int bad, is_free, work, ended;
static volatile long done;

static void *write_or_read(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        if (bad) {
            pthread_rwlock_wrlock(&rwlock);
            usleep(HELD_US);
        } else {
            usleep(HELD_US);
            pthread_rwlock_rdlock(&rwlock);
        }
        done++;
        pthread_rwlock_unlock(&rwlock);
    }
    return unused;
}

// Connections to something, of which there are too few.
static void *use_one(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        while (!is_free) pthread_cond_wait(&changed, &mutex);
        is_free--;
        pthread_mutex_unlock(&mutex);
        usleep(HELD_US);
        pthread_mutex_lock(&mutex);
        is_free++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return unused;
}

static void *wait_for_work(void *unused) {
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (!work && !ended) pthread_cond_wait(&changed, &mutex);
        if (!work) break;
        work--;
        pthread_mutex_unlock(&mutex);
        usleep(1000);
        pthread_mutex_lock(&mutex);
    }
    pthread_mutex_unlock(&mutex);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    bad = !strcmp(argv[2], "bad");
    void *(*run)(void *) = !strcmp(argv[1], "rwlock") ? write_or_read : bad ? use_one : wait_for_work;
    is_free = 1;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, run, 0);
    for (int i = 0; run == wait_for_work && i < 60; i++) {
        usleep(20000);
        pthread_mutex_lock(&mutex);
        work++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    ended = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
    return 0;
}
