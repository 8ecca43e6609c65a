"""Distances between places on the ground."""

import numpy as np
from jaxtyping import Float

RADIUS_M = 6_371_008.8
"""Mean radius of the Earth."""


def great_circle_m(
    first: Float[np.ndarray, "*place 2"], second: Float[np.ndarray, "*place 2"]
) -> Float[np.ndarray, "*place"]:
    """Distance of each place from its partner along a great circle, in metres.

    By the haversine, whose differences of coordinates keep the last metre of near places.

    Args:
        first: WGS 84 degrees, longitude first.
        second: the partners, in the same order.
    """
    lon, lat = np.radians(first).T
    other_lon, other_lat = np.radians(second).T
    across = np.cos(lat) * np.cos(other_lat) * np.sin((lon - other_lon) / 2) ** 2
    haversine = np.sin((lat - other_lat) / 2) ** 2 + across
    metres: np.ndarray = 2 * RADIUS_M * np.arcsin(np.sqrt(np.clip(haversine, 0, 1))).T
    return metres


def moved(
    lonlat: Float[np.ndarray, "place 2"],
    distance_m: float | Float[np.ndarray, " place"],
    bearing: Float[np.ndarray, " place"],
) -> Float[np.ndarray, "place 2"]:
    """Places a distance away along great circles.

    Args:
        lonlat: WGS 84 degrees, longitude first.
        distance_m: how far.
        bearing: direction in radians, clockwise from north.
    """
    lon, lat = np.radians(lonlat).T
    angle = np.asarray(distance_m) / RADIUS_M
    sine = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    east = np.sin(bearing) * np.sin(angle) * np.cos(lat)
    turn = np.arctan2(east, np.cos(angle) - np.sin(lat) * sine)
    there = np.degrees(np.stack([lon + turn, np.arcsin(np.clip(sine, -1, 1))], axis=1))
    there[:, 0] = (there[:, 0] + 180) % 360 - 180
    return np.where(angle.reshape(-1, 1) == 0, lonlat, there)
