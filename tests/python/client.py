"""A client of gRPC on the library in C (grpcio). The messages are written and read by hand, so it needs no stubs.

Run by tests/tests/grpc/python.rs; by hand: PYTHONPATH=target python3 client.py ADDRESS [CERTIFICATE]
"""

import base64
import sys
import threading

import grpc

WAIT_SECONDS = 20
SERVER_KEY = "Basic " + base64.b64encode(b"defaultkey:").decode()


def varint(number):
    encoded = b""
    while number >= 128:
        encoded, number = encoded + bytes([number % 128 | 128]), number // 128
    return encoded + bytes([number])


def field(number, content):
    """A field with a length: a text, or a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def read_varint(message, at):
    number, shift = 0, 0
    while True:
        byte, at = message[at], at + 1
        number, shift = number | (byte & 127) << shift, shift + 7
        if byte < 128:
            return number, at


def fields(message):
    """The last value of each field: bytes, or a number."""
    found, at = {}, 0
    while at < len(message):
        key, at = read_varint(message, at)
        value, at = read_varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found[key >> 3] = value
    return found


class Client:
    def __init__(self, address, certificate):
        if certificate is None:
            self.channel = grpc.insecure_channel(address)
        else:
            with open(certificate, "rb") as file:
                trusted = grpc.ssl_channel_credentials(file.read())
            self.channel = grpc.secure_channel(address, trusted)

    def begin(self, method, message=b"", authorization=None, timeout=WAIT_SECONDS, **more):
        path = method if method.startswith("/") else f"/nakama.api.Nakama/{method}"
        metadata = [("authorization", authorization)] if authorization else []
        return self.channel.unary_unary(path).future(message, timeout=timeout, metadata=metadata, **more)

    def ok(self, *call, **more):
        return fields(self.begin(*call, **more).result())

    def refused(self, *call, **more):
        """The code and the text of a refusal."""
        begun = self.begin(*call, **more)
        assert begun.exception() is not None, f"{call} should be refused"
        return begun.code(), begun.details()


def check(holds, *what):
    if not holds:
        raise AssertionError(what)


def check_deadline(client):
    """The message of this call does not come, so its time runs out while the server waits for it."""
    never = threading.Event()

    def messages():
        never.wait(WAIT_SECONDS)
        yield b""

    calling = client.channel.stream_unary("/nakama.api.Nakama/AuthenticateDevice")
    begun = calling.future(messages(), timeout=0.3, metadata=[("authorization", SERVER_KEY)])
    check(begun.exception() is not None and begun.code() == grpc.StatusCode.DEADLINE_EXCEEDED, begun.code(), begun.details())
    never.set()


def run(client):
    check(client.ok("Healthcheck") == {}, "the server is healthy")
    check(client.ok("/grpc.health.v1.Health/Check") == {1: 1}, "it serves, as balancers ask")
    asked = field(1, field(1, "device-of-python")) + field(2, b"\x08\x01") + field(3, "python")
    session = client.ok("AuthenticateDevice", asked, SERVER_KEY)
    bearer = "Bearer " + session[2].decode()
    for compression in [None, grpc.Compression.Gzip]:
        account = client.ok("GetAccount", b"", bearer, compression=compression)
        check(fields(account[1])[2] == b"python", account)
        client.ok("UpdateAccount", field(3, field(1, "Pÿthon " * 50)), bearer, compression=compression)
    many = [client.begin("GetAccount", b"", bearer) for _ in range(200)]
    check(all(fields(fields(call.result())[1])[2] == b"python" for call in many), "many calls at a time")
    check_deadline(client)

    codes = grpc.StatusCode
    refusals = [
        (("GetAccount",), codes.UNAUTHENTICATED, "session token missing"),
        (("GetAccount", b"", "Bearer nonsense"), codes.UNAUTHENTICATED, "token invalid"),
        (("AuthenticateDevice", asked, "Basic eDp4"), codes.UNAUTHENTICATED, "server key"),
        (("ListMatches", b"", bearer), codes.UNIMPLEMENTED, "feature of the protocol: match"),
        (("LinkApple", b"", bearer), codes.UNIMPLEMENTED, "feature of the protocol: account/link/apple"),
        (("ListMatches",), codes.UNAUTHENTICATED, "feature: match"),
        (("AuthenticateSteam", b"", SERVER_KEY), codes.UNIMPLEMENTED, "way to sign in"),
        (("RpcFunc", field(1, "x"), bearer), codes.NOT_FOUND, "rpc"),
        (("Nothing", b"", bearer), codes.UNIMPLEMENTED, "no such method"),
        (("JoinGroup", field(1, "x"), bearer), codes.INVALID_ARGUMENT, "group"),
        (("AddFriends", b"\x0a\x05ab", bearer), codes.INVALID_ARGUMENT, "cannot be read"),
        (("AddFriends", field(1, "x" * 30_000), bearer), codes.INVALID_ARGUMENT, "larger than 25932 bytes"),
    ]
    for call, code, words in refusals:
        refused = client.refused(*call)
        check(refused[0] == code and words in refused[1], call, refused)
    client.ok("SessionLogout", field(1, session[2]) + field(2, session[3]), bearer)
    check(client.refused("GetAccount", b"", bearer) == (codes.UNAUTHENTICATED, "token logged out"), "it is logged out")


def main():
    address, certificate = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    client = Client(address, certificate)
    run(client)
    client.channel.close()
    print("the client in Python is content")


main()
