"""A token issuer on a real loopback socket that can be slow, broken, hostile, or rotate its keys."""

import asyncio
import base64
import json
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm


def public_jwk(key: Ed25519PrivateKey, kid: str | None) -> dict[str, Any]:
    jwk = dict(OKPAlgorithm.to_jwk(key.public_key(), as_dict=True))
    return jwk | ({} if kid is None else {"kid": kid})


class Issuer:
    name = "https://issuer.example"

    def __init__(self) -> None:
        self.keys: dict[str | None, Ed25519PrivateKey] = {"k1": Ed25519PrivateKey.generate()}
        self.hits = 0
        self.mood = "good"
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/jwks.json", self.answer)
        app.router.add_get("/elsewhere.json", self.redirected)
        return app

    async def redirected(self, request: web.Request) -> web.Response:
        return self.good()  # so that a client that follows shows itself by succeeding

    def good(self) -> web.Response:
        return web.json_response({"keys": [public_jwk(key, kid) for kid, key in self.keys.items()]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.hits += 1
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        match self.mood:
            case "500":
                return web.Response(status=500, text="sorry")
            case "redirect":
                raise web.HTTPFound("/elsewhere.json")
            case "huge":
                return web.Response(body=b" " * (1024**2 + 1))
            case "bomb":
                reply = web.Response(body=b" " * (64 * 1024**2))
                reply.enable_compression(web.ContentCoding.gzip)
                return reply
            case "html":
                return web.Response(text="<h1>hello</h1>", content_type="text/html")
            case "list":
                return web.json_response([1, 2])
            case "empty":
                return web.json_response({"keys": []})
            case "deep":
                return web.Response(body=b'{"keys":' + b"[" * 200_000)
            case "reset":
                assert request.transport is not None
                request.transport.abort()
        return self.good()

    def token(
        self, now_s: int, *, kid: str | None = "k1", headers: dict[str, Any] | None = None, **claims: Any
    ) -> bytes:
        """A good token, but for what is given; a claim that is ``...`` is left out."""
        body = {"iss": self.name, "aud": "api", "sub": "alice", "org": "acme", "iat": now_s, "exp": now_s + 300}
        body = {name: value for name, value in (body | claims).items() if value is not ...}
        key = self.keys.get(kid or "k1", self.keys[next(iter(self.keys))])
        return sign(body, key, ({} if kid is None else {"kid": kid}) | (headers or {}))


def sign(body: Any, key: Ed25519PrivateKey, headers: dict[str, Any]) -> bytes:
    """A JWS made by hand, so that what PyJWT refuses to make can be made too."""
    head = {"alg": "EdDSA", "typ": "JWT"} | headers
    signed = b".".join(
        base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).rstrip(b"=")
        for part in (head, body)
    )
    return signed + b"." + base64.urlsafe_b64encode(key.sign(signed)).rstrip(b"=")


def hmac_token(body: dict[str, Any], secret: str | bytes, algorithm: str = "HS256") -> bytes:
    return jwt.encode(body, secret, algorithm=algorithm).encode()
