# Transactions that update one row (bad), or one each (well), of a server of their own. $PORT is a free port.
B=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
chown 65534 .
export HOME=$PWD
U="setpriv --reuid 65534 --regid 65534 --clear-groups"
$U $B/initdb -D d -A trust > out 2>&1 || exit 9
$U $B/postgres -D d -p $PORT -k $PWD -c fsync=off > log 2>&1 & server=$!
for i in $(seq 100); do $U $B/psql -qh $PWD -p $PORT -c 'select 1' postgres > out 2>&1 && break; sleep 0.1; done
$U $B/psql -qh $PWD -p $PORT -c 'create table t(a int primary key, b int); insert into t select g, 0 from generate_series(1,8) g' postgres
: > armed
while [ ! -e go ]; do sleep 0.05; done
for k in 1 2 3 4; do
  row=$k
  [ $1 = bad ] && row=1
  for i in 1 2 3 4 5 6; do echo "begin; update t set b=b+1 where a=$row; select pg_sleep(0.1); commit;"; done > q$k
  $U $B/psql -qAth $PWD -p $PORT -f q$k postgres > o$k 2>&1 & clients="$clients $!"
done
wait $clients
: > done
while [ -e go ]; do sleep 0.05; done
kill $server
wait $server
true
