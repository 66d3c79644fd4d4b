/** What the members of a gang are told: workers that train together, one activity each. */
import { z } from 'zod';

/** One member's part in an attempt of its gang. */
export const GangMember = z.strictObject({
  /** Names the attempt. What has another one is of an attempt that is over. */
  token: z.string().min(1),
  /** 0 leads: it writes checkpoints and the artifact. */
  member: z.number().int().nonnegative(),
  members: z.number().int().min(2),
  /** Seconds in which all members must have come. */
  waitSeconds: z.number().positive(),
  /** What the leader has told, for the others. */
  leader: z
    .strictObject({
      /** Host and port at which it takes the others in. */
      address: z.string().min(1),
      /** The stored checkpoint that all go on from; absent: they begin. */
      step: z.number().int().nonnegative().optional(),
    })
    .optional(),
});
export type GangMember = z.infer<typeof GangMember>;

/** What the leader of a gang tells its workflow with the signal `gangLeader`. */
export const GangLeader = z.strictObject({
  token: z.string(),
  leader: GangMember.shape.leader.unwrap(),
});
export type GangLeader = z.infer<typeof GangLeader>;

/** Whether this member is there for the leader alone. */
export function follows(gang: GangMember | undefined): boolean {
  return gang !== undefined && gang.member > 0;
}
