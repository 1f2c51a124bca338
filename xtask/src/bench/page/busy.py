"""Sixty threads that fail, wait and connect in vain for some seconds: a report of them has as much as it may of everything."""
import os, random, socket, sys, threading, time

end = time.monotonic() + float(sys.argv[1])

def work(n):
    chance = random.Random(n)
    while time.monotonic() < end:
        try: os.stat(f"/var/lib/data/{n}/{chance.randrange(300)}")
        except OSError: pass
        for _ in range(200): os.getppid()
        with socket.socket() as client:
            try: client.connect(("127.0.0.1", 1 + chance.randrange(200)))
            except OSError: pass
        time.sleep(0.012 + chance.random() * 0.02)

threads = [threading.Thread(target=work, args=(n,)) for n in range(60)]
for thread in threads: thread.start()
for thread in threads: thread.join()
