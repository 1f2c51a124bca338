#!/bin/bash
# Runs ordinary tools with ordinary arguments. harmless.txt was made from a recording of it, with the paths of the home
# directory renamed and lines left out that have no new words:
#
#     ctrace record --redact off -o x.ctr -- bash harmless.sh DIR SRC
#     ctrace events --json --class process x.ctr | jq -r 'select(.argv).argv
#         | map(gsub("\\\\"; "\\\\") | gsub("\n"; "\\n") | gsub("\t"; "\\t")) | join("\t")' | sort -u
#
# DIR is empty and is worked in; SRC is a clone of a repository of Rust. Nothing here has a secret.
set -u
dir=$1 src=$2
cd "$dir" || exit 1
exec >/dev/null 2>&1 </dev/null
shopt -s nullglob

# A compiler's command lines: crates, C files, the linker.
cargo new -q app --name app && cd app
printf 'serde = { version = "1", features = ["derive"] }\nserde_json = "1"\nclap = { version = "4", features = ["derive"] }\ntempfile = "3"\nregex = "1"\nsha2 = "*"\npetgraph = "*"\nanyhow = "1"\nthiserror = "*"\n' >> Cargo.toml
cp "$src/Cargo.lock" . ; cargo check -q --offline
cd ..
mkdir c && cd c
for f in $(find / -xdev -name '*.c' -path '*zstd*' -not -path '/proc/*' | head -60); do
  gcc -c -O1 -g -fPIC -Wall -I"$(dirname "$f")" -I"$(dirname "$f")/.." -DNDEBUG -DZSTD_LEGACY_SUPPORT=0 "-DVERSION=\"1.5.$RANDOM\"" -o "$(basename "$f" .c).o" "$f"
done
ar rcs libz.a ./*.o; ranlib libz.a; strip -o s.a libz.a; nm libz.a; objdump -h libz.a; readelf -S libz.a; size libz.a
cd ..

# Commits, trees, blobs.
git clone -q "$src" repo && cd repo
git log --format=%H | head -350 | xargs -n1 git show --stat --format=%an
git log --format=%h | head -250 | xargs -n1 git rev-parse --verify --quiet
git log --format='%H %P' | head -120 | while read -r a b _; do git diff --name-only "$b" "$a"; git merge-base --is-ancestor "$b" "$a"; done
git ls-tree -r HEAD | awk '{print $3}' | head -300 | xargs -n1 git cat-file -t
git ls-files | head -500 | while read -r f; do git log -1 --format=%cI -- "$f"; done
git ls-files '*.rs' | head -120 | while read -r f; do git blame -L1,3 --porcelain -- "$f"; git show "HEAD:$f"; done
git log --format=%s | head -250 | while read -r s; do git log -1 --oneline --fixed-strings "--grep=$s"; done
git grep -hoE '[A-Za-z_]{6,}::[a-z_]{4,}' | sort -u | head -400 | xargs -n1 git grep -c -F --
git archive --prefix=release-1.2.3/ -o ../r.tar.gz HEAD; git config --get user.name; git tag -a v1.0.0-rc.1+build.20240131 -m 'first release'
cd ..

# Packages.
dpkg-query -W -f='${Package}\n' | head -450 | xargs -n1 dpkg-query -W '-f=${Package} ${Version} ${Architecture}\n'
dpkg-query -W -f='${Package}=${Version}\n' | head -400 | xargs -n1 apt-cache show
dpkg-query -W -f='${Package}:${Architecture}\n' | head -150 | xargs -n1 dpkg -s

# Paths.
find /usr/lib /usr/share /etc /usr/include -xdev -type f -not -path '*/doc/*' | awk 'NR % 61 == 0' | head -1500 | while read -r f; do stat -c '%s %Y' "$f"; done
find /usr/lib/python3* /usr/share/node* /root/.cargo/registry/src -xdev -type f | awk 'NR % 97 == 0' | head -600 | xargs -n2 cmp -s
for d in /sys/fs/cgroup /sys/class/net /proc/self /proc/sys/net/ipv4; do find "$d" -maxdepth 2 | head -150 | xargs -n1 readlink -f; done
find /usr/lib -name '*.so*' | head -150 | while read -r f; do readelf -d "$f"; ldconfig -v -n "$(dirname "$f")"; done
find /usr/lib -name '*.so*' | head -200 | xargs -n1 sha256sum | while read -r s f; do grep -c -F -e "sha256:$s" "$f"; done

# Symbols and addresses.
for lib in $(find /usr/lib -name 'libstdc++.so.*' | head -1) $(find / -xdev -name 'libLLVM*.so*' | head -1) $(find / -xdev -name 'librustc_driver*.so' | head -1); do
  nm -D "$lib" | awk 'NR % 41 == 0 {print $3}' | head -350 | xargs -n1 c++filt
  nm -D "$lib" | awk 'NR % 53 == 0 {print $1}' | head -100 | xargs -n1 addr2line -f -e "$lib"
done

# Ids of machines and containers, names that generators make.
for i in $(seq 150); do u=$(cat /proc/sys/kernel/random/uuid); blkid -U "$u"; findmnt -n "UUID=$u"; done
for i in $(seq 100); do s=$(echo "layer$i" | sha256sum | cut -d' ' -f1); ctr containers info "$s"; runc --root "$dir/runc" state "$s"; cat "/var/lib/docker/overlay2/$s/diff/etc/hosts"; ls "/run/containerd/io.containerd.runtime.v2.task/k8s.io/$s/config.json"; skopeo inspect "docker://example.com/team/app@sha256:$s"; runc --root "$dir/runc" kill "${s:0:12}" TERM; done
for i in $(seq 60); do r=$(tr -dc bcdfghjklmnpqrstvwxz2456789 </dev/urandom | head -c 15); kubectl --kubeconfig=/dev/null --server=http://127.0.0.1:1 --request-timeout=1ms get pod "checkout-${r:0:10}-${r:10:5}" -n shop -o name; done
for i in $(seq 25); do kubectl create deployment "web-$i" "--image=registry.example.com/web:v1.$i.0-alpine3.19" --replicas=3 --dry-run=client -o yaml; kubectl label --local -f /dev/null "app.kubernetes.io/version=2.$i.1"; done
for i in $(seq 60); do n=$(echo "nix$i" | sha1sum | tr 'ef' 'xz' | head -c 32); ls "/nix/store/$n-glibc-2.38-$i/lib/libc.so.6"; done
for i in $(seq 80); do n=$(echo "js$i" | md5sum | head -c 8); node --check "dist/assets/index-$n.js"; ls "static/js/main.$n.chunk.js" "dist/assets/vendor.${n}e1.css.map"; done
for i in $(seq 40); do curl -s -m 1 --max-time 0.01 -o /dev/null "http://127.0.0.1:1/v2/library/alpine/manifests/3.$i?ns=docker.io&page=$i&sort=asc"; done
grep -rhoE 'https?://[A-Za-z0-9./_~%#?=&-]+' /usr/share/doc /usr/share/perl 2>/dev/null | sort -u | awk 'NR % 7 == 0' | head -500 | while read -r u; do curl -s -m 1 -x http://127.0.0.1:1 -o /dev/null -w '%{http_code}' "$u"; done

# Small programs: their text is an argument.
for k in debug info warn; do python3 -c "import json,sys; print(json.dumps({'level': '$k', 'n': [1, 2, 3]}))"; done
python3 -c 'import keyword, token, tokenize; print(keyword.kwlist, token.tok_name)'
python3 -m venv --without-pip "$dir/venv"; python3 -m compileall -q "$dir/venv"; python3 -m pip --version; python3 -m json.tool /dev/null
node -e 'const path = require("path"); console.log(path.resolve("a", "../b"), process.versions.node)'
perl -MPOSIX -e 'print strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(0)), "\n"; my %key = (a => 1); print join ",", map { "$_=$key{$_}" } sort keys %key;'
for i in $(seq 120); do
  jq -n --arg id "$i" --argjson conf "{\"replicas\":$i,\"image\":\"nginx:1.$i\",\"ports\":[80,443],\"resources\":{\"limits\":{\"cpu\":\"${i}00m\",\"memory\":\"${i}Mi\"}},\"key\":\"name-$i\",\"labels\":{\"app\":\"web$i\",\"tier\":\"front\"}}" '$conf | .id = $id | to_entries | map(select(.key != "x$i")) | from_entries'
  awk -F: -v "min=$i" '$3 > min && $7 !~ /nologin/ { n++ } END { print n+0 }' /etc/passwd
  sed -E -e "s/^([a-z]+)=(.*)\$/\\1: $i\\2/" -e '/^#/d' /etc/os-release
  date -u -d "@$((1700000000 + i * 86399))" +%Y-%m-%dT%H:%M:%S.%NZ; touch -d "2024-02-$((i % 28 + 1))T12:$((i % 60)):07Z" "stamp-$((1700000000 + i))"
  expr $((i * 7919)) % 97; env "LANG=C.UTF-8" "PORT=$((8000 + i))" "RUST_LOG=app=debug,hyper=info" "NODE_OPTIONS=--max-old-space-size=$((i * 16))" true
  sort -k "$((i % 9 + 1)),${i}n" -t '|' -u -o "out.$i.tsv" /etc/passwd; cut -d: -f"1-$i" /etc/passwd; head -c "$((i * 4096))" /dev/zero; dd if=/dev/zero "of=blk$i" bs=4k "count=$i" "seek=$((i * 2))" conv=notrunc
  java -Xmx512m "-Dfile.encoding=UTF-8" "-Dspring.profiles.active=prod,eu$i" -jar "service-2.$i.0-SNAPSHOT.jar" --server.port=$((8000 + i))
  psql -h "db$i.internal" -U app -d orders -c "select count(*) from orders where created_at > now() - interval '$i days'"
  ip route get "10.$i.3.7"; ping -c1 -W1 "fd00:$i::1"; ss -tn "dport = :$i"; sysctl "net.ipv4.tcp_keepalive_time=$((i * 60))" --dry-run
  sh -c "for f in *.log.$i; do test -f \"\$f\" && wc -l < \"\$f\" | tr -d ' '; done; exit $((i % 3))"
done
for w in $(awk 'NR % 500 == 0' /usr/share/dict/words /usr/share/perl/5*/unicore/Name.pl 2>/dev/null | head -300); do printf '%s\n' "$w" | grep -c "$w"; done
tar -czf t.tgz --exclude='*.o' --transform='s,^,pkg-1.0/,' -C c .; tar -tzf t.tgz; gzip -9 -k t.tgz; split -b 1M t.tgz part-; rsync -a --delete --exclude=.git ./c/ ./d/
openssl dgst -sha256 t.tgz; openssl version -a; ssh -V; ssh-keygen -lf /dev/null; sqlite3 x.db 'create table kv(key text primary key, value blob); insert into kv values("token_count", 1);'; make -pn -f /dev/null
unshare --help; mount -o ro,remount,nosuid,size=64m /nonexistent; chown nobody:nogroup stamp-1700086399; useradd --help; systemctl show -p MainPID,ActiveState ssh.service; journalctl -u ssh.service --since '1 hour ago' -n 5
exit 0
