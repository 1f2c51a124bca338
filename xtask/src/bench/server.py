"""A threaded HTTP server whose requests go through a queue of workers: locks and conditions, so futexes."""
import queue, socket, sys, threading

jobs = queue.Queue()

def work():
    while True:
        body, done, out = jobs.get()
        out.append(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        with done:
            done.notify()

def serve(conn):
    with conn:
        while True:
            data = conn.recv(4096)
            if not data:
                return
            done, out = threading.Condition(), []
            with done:
                jobs.put((data, done, out))
                while not out:
                    done.wait()
            conn.sendall(out[0])

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
while True:
    conn, _ = listener.accept()
    threading.Thread(target=serve, args=(conn,), daemon=True).start()
