"""The outbox's entries in a Redis that several machines share.

Each operation is one script, so it happens whole or not at all, also for whoever reads the append-only file after a
crash. The clock is Redis's, so that machines need not agree.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from streak_client._outbox_store import Failure, OutboxEntry, Settled, Written
from streak_client._redis import name_in, open_sync

logger = logging.getLogger("streak_client")

# Whoever drains says so again and again; when it dies, another may begin after so many seconds.
CLAIM_SECONDS = 15.0
_PARTS = (
    "entries",
    "waiting",
    "refused",
    "names",
    "holders",
    "held",
    "attempts",
    "errors",
    "sequence",
    "drainer",
    "faults",
)

_PRELUDE = """
local entries, waiting, refused, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local holders, held, attempts, errors, faults = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[11]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function let_go(id)
  redis.call('ZREM', held, id)
  redis.call('HDEL', holders, id)
end
local function take_up(id)
  redis.call('ZREM', refused, id)
  redis.call('ZADD', waiting, id, id)
  redis.call('HDEL', attempts, id)
  redis.call('HDEL', faults, id)
end
local function forget(id)
  local text = redis.call('HGET', entries, id)
  if not text then return end
  local written = cjson.decode(text)
  redis.call('HDEL', names, written[1] .. ' ' .. written[4])
  redis.call('HDEL', entries, id)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', refused, id)
  redis.call('HDEL', attempts, id)
  redis.call('HDEL', faults, id)
  redis.call('HDEL', errors, id)
  let_go(id)
end
"""
# A repeated script whose first answer was lost finds its own text.
_INSERT = """
local name, text, failure, holder = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local there = redis.call('HGET', names, name)
if there and not redis.call('ZSCORE', refused, there) then
  return redis.call('HGET', entries, there) == text and tonumber(there)
end
if redis.call('ZCARD', waiting) >= tonumber(ARGV[6]) then return false end
local id = there or redis.call('INCR', KEYS[9])
if not there then
  redis.call('HSET', entries, id, text)
  redis.call('HSET', names, name, id)
end
take_up(id)
if failure == '' then redis.call('HDEL', errors, id) else redis.call('HSET', errors, id, failure) end
if holder ~= '' then
  redis.call('HSET', holders, id, holder)
  redis.call('ZADD', held, now + tonumber(ARGV[5]), id)
end
return tonumber(id)
"""
_WAITS = """
local id = redis.call('HGET', names, ARGV[1])
return id and redis.call('ZSCORE', waiting, id) and 1 or 0
"""
_RETRY_REFUSED = """
local room = tonumber(ARGV[1]) - redis.call('ZCARD', waiting)
if room <= 0 then return 0 end
local ids = redis.call('ZRANGE', refused, 0, room - 1)
for _, id in ipairs(ids) do take_up(id) end
return #ids
"""
_DELETE = "forget(ARGV[1])"
_RELEASE = """
local id = ARGV[1]
if not redis.call('ZSCORE', waiting, id) then return 0 end
let_go(id)
if ARGV[2] == '' then redis.call('HDEL', errors, id) else redis.call('HSET', errors, id, ARGV[2]) end
return 1
"""
# Held too far ahead comes from a clock that was wrong, and holds nothing.
_ENTRIES = """
local limit, from, busy, found = tonumber(ARGV[1]), waiting, {}, {}
if ARGV[3] == '1' then
  from = refused
else
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', held, '(' .. now, now + tonumber(ARGV[2]))) do
    busy[id] = true
    limit = limit + 1
  end
end
for _, id in ipairs(redis.call('ZRANGE', from, 0, limit - 1)) do
  if not busy[id] and #found < 4 * tonumber(ARGV[1]) then
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', entries, id)
    found[#found + 1] = redis.call('HGET', attempts, id) or '0'
    found[#found + 1] = redis.call('HGET', errors, id) or ''
  end
end
return found
"""
_DEPTH = "return redis.call('ZCARD', waiting) - redis.call('ZCOUNT', held, '(' .. now, now + tonumber(ARGV[1]))"
_DUE_IN = """
local lease, all = tonumber(ARGV[2]), redis.call('ZRANGE', held, 0, -1, 'WITHSCORES')
if redis.call('ZCARD', waiting) > #all / 2 then return '0' end
for i = 1, #all, 2 do
  local wait = tonumber(all[i + 1]) - now
  if wait <= 0 then return '0' end
  if redis.call('HGET', holders, all[i]) ~= ARGV[1] then
    return wait > lease and '0' or tostring(wait)
  end
end
return false
"""
# What has its answer goes in any case. Only who still drains may count a failure: another may have sent it since.
_SETTLE = """
local sent, gone = tonumber(ARGV[4]), 0
for i = 5, 4 + sent do forget(ARGV[i]) end
if redis.call('GET', KEYS[10]) == ARGV[1] then
  for i = 5 + sent, #ARGV, 4 do
    local id = ARGV[i]
    if redis.call('ZSCORE', waiting, id) then
      redis.call('HINCRBY', attempts, id, 1)
      redis.call('HSET', errors, id, ARGV[i + 1])
      local own = ARGV[i + 3] == '1' and redis.call('HINCRBY', faults, id, 1)
      if ARGV[i + 2] == '1' or (own and own > tonumber(ARGV[2])) then
        redis.call('ZREM', waiting, id)
        redis.call('ZADD', refused, id, id)
        let_go(id)
        gone = gone + 1
      end
    end
  end
end
local over = redis.call('ZCARD', refused) - tonumber(ARGV[3])
if over <= 0 then return {gone, 0} end
for _, id in ipairs(redis.call('ZRANGE', refused, 0, over - 1)) do forget(id) end
return {gone, over}
"""


class RedisStore:
    """Keeps entries in a Redis, for all processes of all machines that use it.

    Args:
        url: Where Redis is; what follows ``#`` keeps the outboxes of several projects apart.

    Raises:
        ConfigurationError: redis-py is missing, or the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        self._redis = open_sync(url, "The outbox's Redis")
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        self.failures: tuple[type[Exception], ...] = (RedisError, OSError)
        # The braces keep all keys on one node of a cluster.
        self._keys = [f"{{{name_in(url)}}}:outbox:{part}" for part in _PARTS]
        self._token = ""
        self._looked_at = False
        (
            self._insert,
            self._delete,
            self._release,
            self._entries,
            self._depth,
            self._due_in,
            self._settle,
            self._waits,
            self._retry_refused,
        ) = (
            self._redis.register_script(_PRELUDE + body)
            for body in (_INSERT, _DELETE, _RELEASE, _ENTRIES, _DEPTH, _DUE_IN, _SETTLE, _WAITS, _RETRY_REFUSED)
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def insert(  # noqa: PLR0913 - a row
        self,
        written: Written,
        error: str | None,
        holder: str | None,
        lease: float,
        limit: int,
        *,
        safe: bool,  # noqa: ARG002 - Redis syncs as it is configured to
    ) -> int | None:
        """Add an entry; see `Store`."""
        text = json.dumps([*written, uuid4().hex])
        found = self._run(self._insert, _name(written), text, error or "", holder or "", lease, limit)
        if not self._looked_at:
            self._looked_at = True
            self._warn_of_forgetfulness()
        return None if found is None else int(found)

    def waits(self, written: Written) -> bool:
        """Tell whether an entry waits; see `Store`."""
        return bool(self._run(self._waits, _name(written)))

    def delete(self, entry_id: int) -> None:
        """Forget an entry; see `Store`."""
        self._run(self._delete, entry_id)

    def release(self, entry_id: int, error: str | None) -> bool:
        """Let an entry wait that was held; see `Store`."""
        return bool(self._run(self._release, entry_id, error or ""))

    def entries(self, limit: int, lease: float, *, refused: bool) -> list[OutboxEntry]:
        """List entries; see `Store`."""
        found = self._run(self._entries, limit, lease, int(refused))
        listed = []
        for start in range(0, len(found), 4):
            entry_id, text, attempts, error = found[start : start + 4]
            written = Written(*json.loads(text)[:5])
            listed.append(written.entry(int(entry_id), int(attempts), error or None, refused=refused))
        return listed

    def depth(self, lease: float) -> int:
        """Count entries; see `Store`."""
        return int(self._run(self._depth, lease))

    def due_in(self, me: str, lease: float) -> float | None:
        """Say when an entry is due; see `Store`."""
        found = self._run(self._due_in, me, lease)
        return None if found is None else float(found)

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Become the one who drains; see `Store`.

        Yields:
            Whether it worked.
        """
        claim = self._redis.lock(self._keys[_PARTS.index("drainer")], timeout=CLAIM_SECONDS, thread_local=False)
        if not claim.acquire(blocking=False):
            yield False
            return
        self._token = claim.local.token
        done = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(claim, done), name="streaks-outbox-claim", daemon=True)
        renewer.start()
        try:
            yield True
        finally:
            done.set()
            renewer.join()
            with suppress(*self.failures):  # what cannot be given back expires
                claim.release()

    def _renew(self, claim: Any, done: threading.Event) -> None:
        while not done.wait(CLAIM_SECONDS / 3):
            with suppress(*self.failures):
                claim.extend(CLAIM_SECONDS, replace_ttl=True)

    def retry_refused(self, limit: int) -> int:
        """Let refused entries wait again; see `Store`."""
        return int(self._run(self._retry_refused, limit))

    def settle(self, sent: Sequence[int], failed: Mapping[int, Failure], attempts: int, limit: int) -> Settled:
        """Note what became of entries; see `Store`."""
        notes: list[Any] = []
        for entry_id, failure in failed.items():
            notes += [entry_id, failure.error, int(failure.refused), int(failure.own_fault)]
        return Settled(*map(int, self._run(self._settle, self._token, attempts, limit, len(sent), *sent, *notes)))

    def _run(self, script: Any, *arguments: object) -> Any:
        return script(keys=self._keys, args=list(arguments))

    def _warn_of_forgetfulness(self) -> None:
        with suppress(*self.failures):  # some services let nobody ask
            # Its types are those of redis.asyncio, too.
            ask: Any = self._redis
            found = {**ask.info("persistence"), **ask.info("memory")}
            if not found.get("aof_enabled"):
                logger.warning("the outbox's Redis keeps nothing over a crash: set appendonly yes, appendfsync always")
            elif ask.config_get("appendfsync").get("appendfsync") != "always":
                logger.warning("the outbox's Redis may lose the last second in a crash: set appendfsync always")
            if str(found.get("maxmemory_policy", "")).startswith("allkeys") and found.get("maxmemory"):
                logger.warning("the outbox's Redis may evict what waits: set maxmemory-policy noeviction")


def _name(written: Written) -> str:
    return f"{written.user_id} {written.request_id}"
