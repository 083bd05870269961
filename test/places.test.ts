// Where things are when nobody says otherwise, by system.

import { expect, test } from "bun:test";
import { win32 } from "node:path";
import { placesOf } from "../src/places.ts";

test("on Linux they are where its packages have them", () => {
  expect(placesOf("linux", { ProgramData: "D:\\Data" })).toEqual({
    configFile: "/etc/fovea/fovea.yaml",
    dataDir: ".fovea",
    flowLogFile: "/var/log/fovea/flows.log",
    agentConfigDir: "/etc/config/settings",
  });
});

test("on Windows they are below the directory for data of programs", () => {
  expect(placesOf("win32", { ProgramData: "D:\\Data\\" })).toEqual({
    configFile: "D:\\Data\\Fovea\\fovea.yaml",
    dataDir: "D:\\Data\\Fovea\\data",
    flowLogFile: "D:\\Data\\Fovea\\flows.log",
    agentConfigDir: "D:\\Data\\Fovea\\settings",
  });
});

test.each([undefined, "", "Data", "\\Data", "C:Data", "/Data"])(
  "a ProgramData of %p leads nowhere else, nor to where the process was started",
  (ProgramData) => {
    const places = Object.values(placesOf("win32", { ProgramData }));
    expect(places.filter((path) => !path.startsWith("C:\\ProgramData\\Fovea\\"))).toEqual([]);
    expect(places.every((path) => win32.isAbsolute(path))).toBe(true);
  },
);
