"""nginx in its three parts: the upstream, the plain proxy, and the gate in Lua."""

import os
import pwd
import re
import subprocess
from pathlib import Path

from benchmarks.stage import TEMPLATES, Missing, Process, Stage, program, render

_HOW = "install nginx (Debian: apt install nginx)"
_HOW_LUA = "install nginx's Lua module (Debian: apt install libnginx-mod-http-lua)"
_HOW_LUA_REDIS = "install the Redis client for nginx's Lua (Debian: apt install lua-nginx-redis)"
_INLINE_BYTES = 2000  # nginx refuses a configuration parameter of 4 KiB and more; longer replies come from a file
_LUA_PATHS = ("/usr/share/lua/5.1", "/usr/local/share/lua/5.1", "/usr/local/openresty/lualib")


def json_reply(size: int) -> bytes:
    """A JSON object of exactly ``size`` bytes, at least 32."""
    start, end = b'{"id":42,"text":"', b'"}'
    if size < 32:
        raise ValueError(f"a reply of {size} bytes is too small; 32 is the least")
    return start + b"x" * (size - len(start) - len(end)) + end


def start_upstream(stage: Stage, name: str, port: int, reply: bytes, *, on_load_core: bool) -> Process:
    """An nginx that answers every request with ``reply``."""
    room = stage.room(name)
    if len(reply) <= _INLINE_BYTES:
        answer = f"return 200 '{reply.decode()}';"
    else:
        (room / "reply.json").write_bytes(reply)
        answer = f"root {room}; rewrite .* /reply.json break;"
    config = render(TEMPLATES / "upstream.conf", user=_user(), port=port, reply=answer)
    return _start(stage, name, room, config, port, on_load_core=on_load_core)


def start_nginx(stage: Stage, port: int, upstream: int) -> Process:
    """The plain proxy."""
    config = render(TEMPLATES / "nginx.conf", user=_user(), port=port, upstream=upstream)
    return _start(stage, "nginx", stage.room("nginx"), config, port)


def start_nginx_lua(
    stage: Stage, windows: str, port: int, upstream: int, keys: dict[str, object], *, redis: int
) -> Process:
    """The gate in Lua. ``windows``: local or redis; ``redis``: its port, 0 without."""
    name = f"nginx-lua-{windows}"
    config = render(
        TEMPLATES / "nginx-lua.conf",
        user=_user(),
        modules=_modules(),
        lua=TEMPLATES,
        windows=windows,
        redis=redis,
        port=port,
        upstream=upstream,
        **keys,
    )
    if redis and not any((Path(path) / file).exists() for path in _LUA_PATHS for file in _REDIS_CLIENTS):
        raise Missing(_HOW_LUA_REDIS)
    return _start(stage, name, stage.room(name), config, port)


_REDIS_CLIENTS = ("nginx/redis.lua", "resty/redis.lua")


def _start(stage: Stage, name: str, room: Path, config: str, port: int, *, on_load_core: bool = False) -> Process:
    file = room / "nginx.conf"
    file.write_text(config)
    argv: list[str | Path] = [program("nginx", _HOW), "-p", room, "-c", file, "-e", "stderr"]
    return stage.start(name, argv, port=port, on_load_core=on_load_core)


def _user() -> str:
    # A master that runs as root gives its workers to nobody, who may not enter the temporary folder.
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


def _modules() -> Path:
    built = subprocess.run([program("nginx", _HOW), "-V"], capture_output=True, text=True, check=True).stderr
    named = re.search(r"--modules-path=(\S+)", built)
    folder = Path(named[1]) if named else Path("/usr/lib/nginx/modules")
    if not (folder / "ngx_http_lua_module.so").exists():
        raise Missing(_HOW_LUA)
    return folder
