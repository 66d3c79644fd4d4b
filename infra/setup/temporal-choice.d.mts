export type TemporalName = 'dev-server' | 'postgresql';
export function temporalData(home: string, temporal: TemporalName): string;
export function rememberedTemporal(home: string): TemporalName | undefined;
export function chooseTemporal(home: string, asked: TemporalName | undefined): TemporalName;
export function checkTemporal(value: string | undefined): TemporalName | undefined;
