/* A rotation as quarters of a whole turn and three shears: (1 -t; 0 1) (1 0; s 1) (1 -t; 0 1), with s the
 * sine of the rest and t the tangent of its half. The rest is kept small, and with it what the shears round.
 */
#include <math.h>

#include "kernels/kernels.h"

void rs_turn_of_angle(const rs_turn *turn, size_t i, double angle) {
    static const double quarter = 1.5707963267948966, one = 32768;
    const double quarters = nearbyint(angle / quarter);
    const double rest = angle - quarters * quarter;
    turn->quarters[i] = (uint8_t)(quarters - 4 * floor(quarters / 4));
    turn->tangent[i] = (int16_t)lrint(tan(rest / 2) * one);
    turn->sine[i] = (int16_t)lrint(sin(rest) * one);
}
