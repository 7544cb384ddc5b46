"""Making a connection and leaving it; what can fail there, in words."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

from voxkit.client.errors import BROKEN, FOREIGN, ClientError
from voxkit.client.options import ListenOptions

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_LARGEST = 4 * 2**20  # bytes of a message of the server: a final of an hour has some 10,000 words


async def connect(options: ListenOptions, offset: float) -> ClientConnection:
    """A connection for audio that begins at `offset` seconds of the session.

    Raises:
        ClientError: there is nobody, or nobody who speaks this protocol.
    """
    from websockets.asyncio.client import connect as opened
    from websockets.exceptions import InvalidHandshake, InvalidStatus

    address = options.address(offset)
    headers = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else {}
    where = address.split("?")[0]
    try:
        return await opened(address, additional_headers=headers, open_timeout=options.retry.connect, max_size=_LARGEST, compression=None,
                            close_timeout=2)
    except ssl.SSLCertVerificationError as error:
        raise ClientError(1015, "REFUSED", f"{where}: {error}") from error
    except InvalidStatus as error:
        status = error.response.status_code  # of a proxy, or of another service: voxkit refuses after the upgrade
        raise ClientError(1013 if status in (429, 500, 502, 503, 504) else FOREIGN, "REFUSED",
                          f"{where} answered with HTTP status {status}") from error
    except InvalidHandshake as error:
        raise ClientError(BROKEN, "REFUSED", f"{where} did not answer as a WebSocket server ({error})") from error
    except (OSError, asyncio.TimeoutError) as error:
        raise ClientError(BROKEN, "UNREACHABLE", f"{where} cannot be reached ({error or 'timed out'})") from error


async def hang_up(connection: ClientConnection) -> None:
    """Close without waiting for long: the other side may be gone."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(connection.close(), 2.5)
