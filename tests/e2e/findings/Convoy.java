/** Threads that queue for a monitor: `java Convoy bad`; that work outside of it: `java Convoy well`; that wait for work: `java Convoy idle`. */
public class Convoy {
    static final Object lock = new Object();
    static long done;

    static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    static void idle() throws Exception {
        var pool = java.util.concurrent.Executors.newFixedThreadPool(6);
        for (int i = 0; i < 60; i++) {
            pool.submit(() -> pause(1));
            pause(15);
        }
        pool.shutdown();
        java.util.concurrent.ForkJoinPool.commonPool().submit(() -> pause(5)).get();
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("idle")) {
            idle();
            return;
        }
        boolean bad = args[0].equals("bad");
        Thread[] threads = new Thread[8];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> {
                for (int k = 0; k < 25; k++) {
                    if (!bad) {
                        pause(5);
                    }
                    synchronized (lock) {
                        if (bad) {
                            pause(5);
                        }
                        done++;
                    }
                }
            }, "worker-" + i);
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(done);
    }
}
